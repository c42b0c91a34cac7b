// Other people's programs, as the tests start them (flock, sh, python3), without the sanitizer: libtsan crashes in programs that were
// not built for it. This one stands under their names at the front of PATH, and starts the real one without LD_PRELOAD.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int count, char** arguments) {
  (void)count;
  unsetenv("LD_PRELOAD");
  const char* const path = getenv("OS_MUTEX_OUTSIDE_PATH");
  if (path != NULL) setenv("PATH", path, 1);
  const char* const slash = strrchr(arguments[0], '/');
  execvp(slash == NULL ? arguments[0] : slash + 1, arguments);
  perror(arguments[0]);
  return 127;
}
