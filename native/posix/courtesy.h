// Letting others go first. flock(2) wakes the first waiter when a lock is released but does not hand the lock over: a process
// in a tight loop takes it again before the waiter has run, and may do so for ever. So:
//
// - a waiter holds a shared flock on a second file, NAME~wait, for as long as it waits (the kernel's word that somebody waits,
//   which a crash takes back), and marks the lock file once;
// - who has taken a lock without waiting, finds that mark, was the last owner itself within the last 10 ms, and finds
//   NAME~wait held, gives the lock back and steps aside until another owner has had it.
//
// Only a hint: where it fails (file gone, a waiter stopped or slow), exclusion stands and only the turn is lost after 10 ms.
#pragma once

#include <chrono>
#include <string>

#include "flock_waiter.h"
#include "lock_file.h"
#include "../owner_record.h"

namespace os_mutex {

class Courtesy {
 public:
  explicit Courtesy(const MutexLocation& location);

  // The owner's side, under the caller's lock and with no wait in progress.
  void wrote(std::string_view record);
  void released() { lastRelease_ = Clock::now(); }
  // What mustStepAside last said.
  bool isSteppingAside() const { return mustStepAside_; }
  // Asked right after a lock was taken without waiting, or before that while it steps aside. `bytes`: the lock file's.
  bool mustStepAside(const LockFile& lock, std::string_view bytes);

  // The waiter's side: on the waiter's thread, while the caller starts nothing else.
  void queueUp(const LockFile& lock, const FlockWaiter& waiter);
  // After the wait, once the waiter's thread is done with it.
  void leaveQueue();

 private:
  using Clock = std::chrono::steady_clock;
  bool openQueue();
  bool isOwnRecord(std::string_view bytes) const;
  void stepAside(const LockFile& lock, const FlockWaiter& waiter) const;

  const MutexLocation location_;  // of NAME~wait
  LockFile queue_;
  bool mustStepAside_ = false;  // written under the caller's lock before the wait starts, read by the waiter's thread
  static constexpr size_t kCompared = kHeaderSize - kStateOffset - 1;
  char lastHeader_[kCompared] = {};  // of this process's latest record, from behind the state byte
  Clock::time_point lastRelease_{};
};

}  // namespace os_mutex
