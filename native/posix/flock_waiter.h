// Waits for a flock on its own thread, which is kept warm between waits: a thread that exists hands over faster than
// one that has to be started, and the libuv pool stays free.
#pragma once

#include <pthread.h>

#include <atomic>
#include <memory>

#include "../sync.h"
#include "endable_flock.h"

namespace os_mutex {

class FlockWaiter {
 public:
  // Called on the waiter's thread.
  class Client {
   public:
    virtual ~Client() = default;
    virtual void beforeFlock(const FlockWaiter& waiter) = 0;
    // The outcome can't be taken before this has returned.
    virtual void flockEnded(int error) = 0;
  };

  explicit FlockWaiter(Client& client) : client_(client) {}
  // Needs: no wait in progress.
  ~FlockWaiter();
  FlockWaiter(const FlockWaiter&) = delete;
  FlockWaiter& operator=(const FlockWaiter&) = delete;

  // Begins to wait for a lock on `fd`. 0, or errno where no thread could be started; failedCall() names the call that
  // failed.
  int start(int fd);
  const char* failedCall() const { return failedCall_; }
  // True: called off, and no thread waits any more (whether it had got the lock is unknown: unlock). False: the wait
  // has ended by itself and flockEnded() has been called, or will be; take the outcome with finish().
  bool cancel();
  // Whether a wait has ended and its outcome was not taken yet.
  bool hasEnded() const { return phase_.load() == Phase::ended; }
  // Takes the outcome: 0 (locked) or errno. What flockEnded() did is done then.
  int finish();
  bool isCalledOff() const { return phase_.load() == Phase::calledOff; }

 private:
  // waiting → ended is the waiter thread's step, waiting → calledOff the caller's: whoever is first decides.
  enum class Phase { idle, waiting, ended, calledOff };

  static void* main(void* self);
  void run();
  // The next job, or -1: the thread ends.
  int nextJob();
  int spawn();

  Client& client_;
  std::atomic<Phase> phase_{Phase::idle};
  Mutex ending_;  // held by the thread from before phase_ becomes ended until flockEnded() has returned
  int error_ GUARDED_BY(ending_) = 0;

  pthread_t thread_{};
  bool spawned_ = false;  // caller's: thread_ is to be joined
  // Belongs to the thread and lives as long as it. The caller makes it before the thread starts and removes it after
  // the thread was joined; a thread that expires removes it itself, since it may own a descriptor.
  std::unique_ptr<EndableFlock> flock_;
  const char* failedCall_ = "";  // caller's

  Mutex mutex_;  // between caller and thread
  Condition wake_;
  int job_ GUARDED_BY(mutex_) = -1;
  bool stop_ GUARDED_BY(mutex_) = false;
  bool expired_ GUARDED_BY(mutex_) = false;  // the thread has been idle for long and is gone
};

}  // namespace os_mutex
