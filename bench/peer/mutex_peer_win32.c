/* The bare peer of the measurements on Windows: a named mutex in C, with no owner record and nothing above it.
 *
 *   mutex_peer_win32 pair NAME ROUNDS     prints the microseconds of one uncontended take and release
 *   mutex_peer_win32 thread NAME ROUNDS   the same by a second thread that does as it is told: what a hand-over between threads costs
 *   mutex_peer_win32 wait NAME            for each line on stdin: takes it (blocking), prints the time in ns, releases at the next line
 *   mutex_peer_win32 loop NAME            the same for a program with an event loop: a second thread waits, and wakes the loop by an I/O
 *                                         completion port, in the way of libuv, which is Node's
 *   mutex_peer_win32 hold NAME            for each line on stdin: takes it and prints a line; at the next line prints the time and releases
 *
 * Compiled by x86_64-w64-mingw32-gcc -O2 -static (`npm run bench:wine` does), or by Visual C++. */
#include <windows.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static HANDLE mutex;
static SRWLOCK lock = SRWLOCK_INIT;
static CONDITION_VARIABLE ordered = CONDITION_VARIABLE_INIT;
static CONDITION_VARIABLE answered = CONDITION_VARIABLE_INIT;
static enum { none, take, give } command = none;

/* As Node's process.hrtime(). */
static long long now(void) {
  LARGE_INTEGER count;
  LARGE_INTEGER frequency;
  QueryPerformanceCounter(&count);
  QueryPerformanceFrequency(&frequency);
  return (long long)((double)count.QuadPart / (double)frequency.QuadPart * 1e9);
}

static HANDLE port;
static HANDLE begin;
static HANDLE end;

static DWORD WINAPI waitForLoop(void* unused) {
  (void)unused;
  for (;;) {
    WaitForSingleObject(begin, INFINITE);
    WaitForSingleObject(mutex, INFINITE);
    PostQueuedCompletionStatus(port, 0, 0, NULL);
    WaitForSingleObject(end, INFINITE);
    ReleaseMutex(mutex);
  }
}

static void takeByLoop(void) {
  OVERLAPPED_ENTRY entries[128];
  ULONG count = 0;
  if (port == NULL) {
    port = CreateIoCompletionPort(INVALID_HANDLE_VALUE, NULL, 0, 1);
    begin = CreateEventA(NULL, FALSE, FALSE, NULL);
    end = CreateEventA(NULL, FALSE, FALSE, NULL);
    CreateThread(NULL, 0, waitForLoop, NULL, 0, NULL);
  }
  SetEvent(begin);
  GetQueuedCompletionStatusEx(port, entries, 128, &count, INFINITE, FALSE);
}

static DWORD WINAPI serve(void* unused) {
  (void)unused;
  for (;;) {
    AcquireSRWLockExclusive(&lock);
    while (command == none) SleepConditionVariableSRW(&ordered, &lock, INFINITE, 0);
    if (command == take) WaitForSingleObject(mutex, INFINITE);
    else ReleaseMutex(mutex);
    command = none;
    ReleaseSRWLockExclusive(&lock);
    WakeConditionVariable(&answered);
  }
  return 0;
}

static void order(int what) {
  AcquireSRWLockExclusive(&lock);
  command = what;
  ReleaseSRWLockExclusive(&lock);
  WakeConditionVariable(&ordered);
  AcquireSRWLockExclusive(&lock);
  while (command != none) SleepConditionVariableSRW(&answered, &lock, INFINITE, 0);
  ReleaseSRWLockExclusive(&lock);
}

int main(int count, char** arguments) {
  if (count < 3) return 2;
  mutex = CreateMutexA(NULL, FALSE, arguments[2]);
  if (mutex == NULL) return 1;
  if (count > 3) {
    const int bare = strcmp(arguments[1], "pair") == 0;
    const long rounds = strtol(arguments[3], NULL, 10);
    long round;
    long long start;
    if (!bare) CreateThread(NULL, 0, serve, NULL, 0, NULL);
    start = now();
    for (round = 0; round < rounds; round++) {
      if (bare) {
        if (WaitForSingleObject(mutex, 0) != WAIT_OBJECT_0) return 1;
        ReleaseMutex(mutex);
      } else {
        order(take);
        order(give);
      }
    }
    printf("%f\n", (double)(now() - start) / (double)rounds / 1000);
    return 0;
  }
  const int holds = strcmp(arguments[1], "hold") == 0;
  const int loops = strcmp(arguments[1], "loop") == 0;
  char line[16];
  setvbuf(stdout, NULL, _IONBF, 0);
  while (fgets(line, sizeof line, stdin) != NULL) {
    if (loops) takeByLoop();
    else WaitForSingleObject(mutex, INFINITE);
    printf("%lld\n", now());
    if (fgets(line, sizeof line, stdin) == NULL) return 0;
    const long long released = now();
    if (loops) SetEvent(end);
    else ReleaseMutex(mutex);
    if (holds) printf("%lld\n", released);
  }
  return 0;
}
