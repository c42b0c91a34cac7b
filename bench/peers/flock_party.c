/* The bare party of the measurements: flock(2) in C. It answers the same lines as bench/support/peer-party.ts, but not
 * `hold` and `pool`, which ask about an event loop. `six-calls` is its own: a pair of os-mutex, without JavaScript.
 *
 *   flock_party FILE FOLDER */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 10, HEADER = 26, RECORD = 200, RECORD_OFFSET = 1 };

static int fd;
static const char* name;

static long long now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void sleepUntil(long long ns) {
  struct timespec time = {ns / 1000000000LL, ns % 1000000000LL};
  clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
}

static void sleepMs(long long ms) { sleepUntil(now() + ms * 1000000LL); }

static void turn(long long answerAfterMs) {
  printf("waiting\n");
  flock(fd, LOCK_EX);
  const long long acquired = now();
  const long long released = now();
  flock(fd, LOCK_UN);
  sleepMs(answerAfterMs);
  printf("%lld %lld\n", acquired, released);
}

static int ascending(const void* a, const void* b) {
  const double left = *(const double*)a;
  const double right = *(const double*)b;
  return (left > right) - (left < right);
}

static int barePair(void) {
  return flock(fd, LOCK_EX) == 0 && flock(fd, LOCK_UN) == 0 ? 0 : -1;
}

/* What os-mutex asks of the kernel for an acquire and a release: it locks, reads the mark, looks whether the name still
 * leads to this file, and writes the owner's record; then it overwrites the record, and unlocks. `strace` shows the same
 * six calls in the same order. */
static int sixCalls(void) {
  static const char owned[RECORD] = "H1 00ae 0123456789abcdef {}";
  static const char released[RECORD] = "F1 00ae 0123456789abcdef   ";
  char header[HEADER];
  struct statx found;
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) return -1;
  if (pread(fd, header, sizeof header, 0) < 0) return -1;
  if (statx(AT_FDCWD, name, AT_SYMLINK_NOFOLLOW, STATX_INO, &found) != 0) return -1;
  if (pwrite(fd, owned, sizeof owned, RECORD_OFFSET) != sizeof owned) return -1;
  if (pwrite(fd, released, sizeof released, RECORD_OFFSET) != sizeof released) return -1;
  return flock(fd, LOCK_UN);
}

/* The median of small batches: a mean would hold what the machine did meanwhile. */
static int pairs(int (*onePair)(void), long long ms) {
  static double batches[1 << 16];
  const long long end = now() + ms * 1000000LL;
  size_t count = 0;
  do {
    const long long start = now();
    int pair;
    for (pair = 0; pair < BATCH; pair++)
      if (onePair() != 0) return -1;
    batches[count++] = (double)(now() - start) / BATCH;
  } while (now() < end && count < sizeof batches / sizeof *batches);
  qsort(batches, count, sizeof *batches, ascending);
  printf("%f\n", batches[count / 2]);
  return 0;
}

/* The counter is read and written back by each owner: an update is lost where there are two. */
static int increment(int counter) {
  double value = 0;
  if (pread(counter, &value, sizeof value, 0) != sizeof value) return -1;
  value++;
  return pwrite(counter, &value, sizeof value, 0) == sizeof value ? 0 : -1;
}

static int loop(const char* folder, long long start, long long end) {
  char path[4096];
  size_t room = 1 << 16;
  size_t count = 0;
  double* stamps = malloc(room * 2 * sizeof *stamps);
  snprintf(path, sizeof path, "%s/counter", folder);
  const int counter = open(path, O_RDWR | O_CLOEXEC);
  if (stamps == NULL || counter < 0) return 1;
  sleepUntil(start);
  while (now() < end) {
    flock(fd, LOCK_EX);
    const long long entered = now();
    if (entered < end && increment(counter) != 0) return 1;
    const long long left = now();
    flock(fd, LOCK_UN);
    if (entered >= end) break;
    if (count == room) {
      room *= 2;
      stamps = realloc(stamps, room * 2 * sizeof *stamps);
      if (stamps == NULL) return 1;
    }
    stamps[2 * count] = (double)entered;
    stamps[2 * count + 1] = (double)left;
    count++;
  }
  snprintf(path, sizeof path, "%s/stamps-%d", folder, (int)getpid());
  FILE* file = fopen(path, "we");
  if (file == NULL || fwrite(stamps, 2 * sizeof *stamps, count, file) != count || fclose(file) != 0) return 1;
  free(stamps);
  printf("%zu\n", count);
  return 0;
}

int main(int arguments, char** argument) {
  char line[128];
  if (arguments < 3) return 2;
  name = argument[1];
  fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0) return 1;
  setvbuf(stdout, NULL, _IOLBF, 0);
  printf("ready\n");
  while (fgets(line, sizeof line, stdin) != NULL) {
    char what[16] = "";
    long long first = 0;
    long long second = 0;
    sscanf(line, "%15s %lld %lld", what, &first, &second);
    if (strcmp(what, "acquire") == 0) {
      flock(fd, LOCK_EX);
      printf("%lld\n", now());
    } else if (strcmp(what, "release") == 0) {
      const long long released = now();
      flock(fd, LOCK_UN);
      printf("%lld\n", released);
    } else if (strcmp(what, "turn") == 0) {
      turn(first);
    } else if (strcmp(what, "pair") == 0) {
      if (pairs(barePair, first) != 0) return 1;
    } else if (strcmp(what, "six-calls") == 0) {
      if (pairs(sixCalls, first) != 0) return 1;
    } else if (strcmp(what, "block") == 0) {
      sleepMs(first);
      printf("%lld\n", now());
    } else if (strcmp(what, "loop") != 0 || loop(argument[2], first, second) != 0) {
      return 1;
    }
  }
  return 0;
}
