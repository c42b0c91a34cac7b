#include "flock_waiter.h"

#include <cerrno>
#include <chrono>
#include <csignal>
#include <utility>

#include "os.h"

namespace os_mutex {
namespace {

constexpr auto kIdleLimit = std::chrono::seconds(5);
constexpr size_t kStackSize = size_t{256} * 1024;  // glibc takes the static TLS of all libraries out of it

}  // namespace

FlockWaiter::~FlockWaiter() {
  if (!spawned_) return;
  {
    Guard guard(mutex_);
    stop_ = true;
  }
  wake_.notifyOne();
  pthread_join(thread_, nullptr);
}

int FlockWaiter::spawn() {
  auto flock = EndableFlock::make();
  int error = flock->prepare(failedCall_);
  if (error != 0) return error;
  flock_ = std::move(flock);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackSize);
  // The process's signals are for its own threads. The new thread inherits the mask.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  failedCall_ = "pthread_create";
  error = pthread_create(&thread_, &attributes, &FlockWaiter::main, this);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_attr_destroy(&attributes);
  spawned_ = error == 0;
  if (!spawned_) flock_.reset();
  return error;
}

int FlockWaiter::start(int fd) {
  Guard guard(mutex_);
  if (expired_) {
    // The thread has taken its last step under mutex_, so the join is short.
    pthread_join(thread_, nullptr);
    expired_ = spawned_ = false;
  }
  job_ = fd;
  phase_.store(Phase::waiting);
  if (spawned_) {
    wake_.notifyOne();
    return 0;
  }
  const int error = spawn();
  if (error != 0) {
    job_ = -1;
    phase_.store(Phase::idle);
  }
  return error;
}

bool FlockWaiter::cancel() {
  Phase expected = Phase::waiting;
  if (!phase_.compare_exchange_strong(expected, Phase::calledOff)) return false;
  {
    // Not picked up yet: the thread is just waking up, or still finishing the previous wait. It is in no call that has
    // to be interrupted, so taking the job back is enough.
    Guard guard(mutex_);
    if (job_ >= 0) {
      job_ = -1;
      phase_.store(Phase::idle);
      return true;
    }
  }
  // Picked up: from here on the thread can only exit. It is ended in flock_, or sees calledOff before or after it. It
  // takes none of the caller's locks on its way out, so the join may happen under them.
  flock_->end(thread_);
  flock_.reset();
  spawned_ = false;
  phase_.store(Phase::idle);
  return true;
}

int FlockWaiter::finish() {
  Guard guard(ending_);
  phase_.store(Phase::idle);
  return error_;
}

void* FlockWaiter::main(void* self) {
  int ignored;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &ignored);
  nameThisThread("os-mutex");
  static_cast<FlockWaiter*>(self)->run();
  return nullptr;
}

int FlockWaiter::nextJob() {
  Guard guard(mutex_);
  const auto deadline = Condition::Clock::now() + kIdleLimit;
  while (job_ < 0 && !stop_ && wake_.waitUntil(mutex_, deadline)) {}
  if (stop_) return -1;
  if (job_ < 0) {
    flock_.reset();
    expired_ = true;
    return -1;
  }
  return std::exchange(job_, -1);
}

void FlockWaiter::run() {
  for (int fd = nextJob(); fd >= 0; fd = nextJob()) {
    client_.beforeFlock(*this);
    int error = EINTR;
    while (error == EINTR && !isCalledOff()) error = flock_->lock(fd);
    // The caller may wait for ending_ with all its locks held: from here on this thread waits for none of them.
    Guard guard(ending_);
    error_ = error;
    Phase expected = Phase::waiting;
    if (!phase_.compare_exchange_strong(expected, Phase::ended)) return;
    client_.flockEnded(error);
  }
}

}  // namespace os_mutex
