// Letting others go first. flock(2) wakes the first waiter when a lock is released, but does not hand the lock over: a
// process in a tight loop takes it again before the waiter has run, and may do so for ever. So:
//
// - A waiter holds a shared flock on a second file, NAME~wait, for as long as it waits. So the kernel proves that
//   somebody waits, and a crash ends that. It also marks the lock file.
// - A process that takes a lock without waiting, finds that mark, was the last owner itself a moment ago, and finds
//   NAME~wait held, gives the lock back. It steps aside until another owner has had it, or its patience ends.
//
// Patience has a budget, since a waiter may be stopped, or only pretend to wait: after stepping aside in vain, a
// process does not step aside again for nine times as long. So it loses a tenth of the time at most. The next time it
// waits longer, for a waiter that is slow to wake up.
//
// Only a hint: where it fails (no file, a waiter slower than that), exclusion stands and only the turn is lost.
#pragma once

#include <chrono>
#include <string>

#include "flock_waiter.h"
#include "lock_file.h"
#include "own_record.h"

namespace os_mutex {

class Courtesy {
 public:
  enum class Taken { yes, no, error };

  // `own`: this process's latest record in the lock file.
  Courtesy(const MutexLocation& location, const OwnRecord& own);

  // The owner's side, under the caller's lock and with no wait in progress: flock(LOCK_EX | LOCK_NB) that leaves others
  // their turn. `header` gets the file's first bytes, read under the lock. `error`: an errno.
  Taken take(const LockFile& lock, std::string_view& header, char (&buffer)[kHeaderSize], int& error);
  void released() { lastRelease_ = Clock::now(); }

  // The waiter's side. Made and ended under the caller's lock; in between, the waiter's thread alone uses it.
  class Place {
   public:
    explicit Place(Courtesy& courtesy) : courtesy_(courtesy) {}
    ~Place() { leave(); }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;
    // Steps aside first, if that is why the caller was refused its lock.
    void enter(const LockFile& lock, const FlockWaiter& waiter);
    void leave();

   private:
    Courtesy& courtesy_;
    bool entered_ = false;
  };

  // Keeps the cleaners away from NAME~wait.
  void keepYoung() const;
  // Gives NAME~wait's descriptor back. Needs: no Place.
  void rest() { queue_.close(); }

 private:
  using Clock = std::chrono::steady_clock;
  bool openQueue();
  bool isOthersTurn(const LockFile& lock, std::string_view header);
  bool isDone(std::string_view header);
  void takeRest();
  bool someoneWaits(const LockFile& lock);
  void stepAside(const LockFile& lock, const FlockWaiter& waiter);

  const MutexLocation location_;  // of NAME~wait
  const OwnRecord& own_;
  LockFile queue_;
  // Written under the caller's lock while nobody waits, or by the waiter's thread while it steps aside: then nobody
  // owns in this process.
  bool isSteppingAside_ = false;
  Clock::duration patience_;
  Clock::time_point lastRelease_{};
  Clock::time_point restUntil_{};
};

}  // namespace os_mutex
