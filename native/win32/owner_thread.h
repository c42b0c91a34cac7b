// A thread that owns a Win32 mutex on behalf of JavaScript. The kernel gives a mutex to a thread, not to a process: the
// thread that took it has to release it, and the same thread would get it a second time at once. So each acquisition is
// made, waited for and given back by a thread of ours, which is kept warm for some seconds.
#pragma once

#include <windows.h>

#include <atomic>

#include "../sync.h"
#include "handle.h"

namespace os_mutex {

// How WaitForSingleObject answered, as far as it concerns a mutex.
enum class WaitOutcome { acquired, abandoned, busy, failed };

class OwnerThread {
 public:
  class Client {
   public:
    virtual ~Client() = default;
    // Called on the owner thread, with nothing locked.
    virtual void waitEnded() = 0;
  };

  explicit OwnerThread(Client& client) : client_(client) {}
  // Needs: no wait in progress. What it still owns is abandoned.
  ~OwnerThread();
  OwnerThread(const OwnerThread&) = delete;
  OwnerThread& operator=(const OwnerThread&) = delete;

  // All below are called by one thread at a time, which need not be the same one. `error`: GetLastError() of the call
  // that failed.

  // Takes the mutex if it is free.
  WaitOutcome tryLock(HANDLE mutex, DWORD& error);
  // Begins to wait for the mutex. False: the thread or its event could not be made.
  bool startWait(HANDLE mutex, DWORD& error);
  // Whether a wait has ended by itself and its outcome was not taken yet.
  bool hasEnded() const { return phase_.load() == Phase::ended; }
  WaitOutcome finishWait(DWORD& error);
  // On return the thread waits no more. It owns the mutex only if it got it at that very moment: the outcome says so.
  WaitOutcome cancelWait();
  void unlock();
  // Ends the thread. If it owns the mutex, the kernel reports it to the next owner as abandoned.
  void end();

 private:
  enum class Command { none, tryLock, wait, unlock, end };
  // waiting → ended is the thread's step, waiting → calledOff the caller's: whoever is first decides.
  enum class Phase { idle, waiting, ended, calledOff };

  static DWORD WINAPI main(void* self);
  void run();
  bool nextCommand(Command& command);
  void answer();
  bool order(Command command, DWORD& error);
  void post(Command command) REQUIRES(lock_);
  void awaitAnswer();
  void join();
  void forget();
  void wait();
  WaitOutcome outcomeOf(DWORD result);

  Client& client_;
  Handle thread_;  // the caller's; none: not started, or ended and joined
  Handle cancel_;  // set while a wait is to end
  HANDLE mutex_ = nullptr;
  std::atomic<Phase> phase_{Phase::idle};
  // Written by the thread before it answers or phase_ becomes ended, read by the caller after.
  WaitOutcome outcome_ = WaitOutcome::busy;
  DWORD error_ = 0;
  bool owns_ = false;  // the thread's own: it does not end for idleness while it owns

  Mutex lock_;  // between caller and thread
  Condition ordered_;
  Condition answered_;
  Command command_ GUARDED_BY(lock_) = Command::none;
  bool busy_ GUARDED_BY(lock_) = false;     // ordered, and not answered yet; only the caller sets it
  bool expired_ GUARDED_BY(lock_) = false;  // the thread has been idle for long and is on its way out
};

}  // namespace os_mutex
