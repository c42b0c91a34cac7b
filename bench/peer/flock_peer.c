/* The bare peer of the measurements: flock(2) in C, with no owner record and nothing above it.
 *
 *   flock_peer pair FILE ROUNDS   prints the nanoseconds of one uncontended lock and unlock
 *   flock_peer wait FILE          for each line on stdin: locks (blocking), prints the monotonic time in ns, unlocks at the next line
 *   flock_peer hold FILE          for each line on stdin: locks and prints a line; at the next line prints the time and unlocks
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>

static long long now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000LL + time.tv_nsec;
}

int main(int count, char** arguments) {
  if (count < 3) return 2;
  int fd = open(arguments[2], O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0) return 1;
  if (strcmp(arguments[1], "pair") == 0 && count > 3) {
    long rounds = strtol(arguments[3], NULL, 10);
    long long start = now();
    for (long round = 0; round < rounds; round++) {
      if (flock(fd, LOCK_EX | LOCK_NB) != 0) return 1;
      flock(fd, LOCK_UN);
    }
    printf("%f\n", (double)(now() - start) / (double)rounds);
    return 0;
  }
  int holds = strcmp(arguments[1], "hold") == 0;
  char line[16];
  setvbuf(stdout, NULL, _IOLBF, 0);
  while (fgets(line, sizeof line, stdin) != NULL) {
    if (flock(fd, LOCK_EX) != 0) return 1;
    long long locked = now();
    printf("%lld\n", locked);
    if (fgets(line, sizeof line, stdin) == NULL) return 0;
    long long released = now();
    flock(fd, LOCK_UN);
    if (holds) printf("%lld\n", released);
  }
  return 0;
}
