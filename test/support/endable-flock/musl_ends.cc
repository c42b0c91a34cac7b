// Ends threads that wait for a flock, by the addon's own cancellableFlock and musl: musl_ends FILE ROUNDS.
// Each thread tells in the destructor of a thread-local on which stack it ends: the ABI of x86-64 wants it to be aligned
// to 16 bytes. Exits with 1 where one is not. Without the C++ library, since musl-gcc has none.
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include "../../../native/posix/cancellable_flock.h"

namespace {

struct Thread {
  int file;
  int aligned = 0;
  int misaligned = 0;
  bool isReady = false;  // atomic
};
pthread_key_t key;
const char* path;

int openFile() { return ::open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600); }

#define CHECK(what) \
  if (!(what)) printf("line %d: not %s\n", __LINE__, #what), fflush(stdout), _exit(1)

// Runs as a function that pthread_exit calls.
void tellStack(void* self) {
  auto* const thread = static_cast<Thread*>(self);
  const bool isAligned = reinterpret_cast<uintptr_t>(__builtin_frame_address(0)) % 16 == 0;
  (isAligned ? thread->aligned : thread->misaligned)++;
}

// Locks and unlocks until it is ended.
void* lockForEver(void* self) {
  int ignored;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &ignored);
  pthread_setspecific(key, self);
  const int file = static_cast<Thread*>(self)->file;
  __atomic_store_n(&static_cast<Thread*>(self)->isReady, true, __ATOMIC_SEQ_CST);
  for (;;) {
    const int error = os_mutex::cancellableFlock(file);
    CHECK(error == 0);
    CHECK(flock(file, LOCK_UN) == 0);
  }
}

unsigned random15() {
  static unsigned state = 1;
  state = state * 1103515245 + 12345;
  return state >> 16 & 32767;
}

void spin(unsigned turns) {
  for (volatile unsigned i = 0; i < turns; i = i + 1) {
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 3) return 2;
  path = arguments[1];
  const int rounds = atoi(arguments[2]);
  ::alarm(100);
  CHECK(pthread_key_create(&key, tellStack) == 0);
  const int owner = openFile();
  Thread thread{openFile()};
  for (int round = 0; round < rounds; round++) {
    // Two of three threads find the lock taken, and half of those get it about when they are ended. The third takes and
    // releases it, and is ended at any instruction.
    const bool isTaken = round % 3 != 0;
    CHECK(flock(owner, isTaken ? LOCK_EX : LOCK_UN) == 0);
    pthread_t id;
    __atomic_store_n(&thread.isReady, false, __ATOMIC_SEQ_CST);
    CHECK(pthread_create(&id, nullptr, lockForEver, &thread) == 0);
    while (!__atomic_load_n(&thread.isReady, __ATOMIC_SEQ_CST)) sched_yield();
    spin(random15() * 2);
    if (round % 6 >= 3) CHECK(flock(owner, LOCK_UN) == 0);
    spin(random15() / 16);
    CHECK(pthread_cancel(id) == 0);
    void* result;
    CHECK(pthread_join(id, &result) == 0 && result == PTHREAD_CANCELED);
    CHECK(flock(thread.file, LOCK_UN) == 0);
    CHECK(flock(owner, LOCK_EX | LOCK_NB) == 0);
  }
  printf("%d threads, %d ended on a misaligned stack\n", thread.aligned + thread.misaligned,
         thread.misaligned);
  return thread.aligned == rounds ? 0 : 1;
}
