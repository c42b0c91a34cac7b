// One mutex as this process uses it: all instances in all threads share the one ProcessMutex of their location. It
// keeps the line of acquires (first come, first served), and lets one of them at a time wait in the kernel.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>

#include "platform_mutex.h"
#include "sync.h"

namespace os_mutex {

// Identifies one acquisition in this process, across all mutexes; 0 is none.
using Hold = uint64_t;
Hold nextHold();

// One acquire in the line.
class Request {
 public:
  enum class State {
    queued,
    granted,    // this process has the lock on behalf of the request, which does not know it yet
    delivered,  // the owner has it
    failed,
    ended,      // taken out of the line, or taken back
  };

  explicit Request(Hold name) : hold(name) {}
  virtual ~Request() = default;
  // The state may have changed, or may change now; its thread should look (see deliver). Called on any thread, with or
  // without the ProcessMutex locked, so it only notifies that thread.
  virtual void wake() = 0;

  const Hold hold;
  // All below: guarded by the ProcessMutex's lock.
  State state = State::queued;
  Acquired acquired;
  Failure failure;
};

class ProcessMutex final : private PlatformMutex::Listener {
 public:
  static std::shared_ptr<ProcessMutex> at(const MutexLocation& location);
  explicit ProcessMutex(const MutexLocation& location);
  ~ProcessMutex() override;

  // Takes the lock for `hold` if it is free and nobody is in line, and publishes `record`.
  LockResult tryAcquire(Hold hold, std::string_view record, Acquired& acquired, Failure& failure);
  void enqueue(const std::shared_ptr<Request>& request);
  // What a woken request does on its own thread: granted becomes delivered, and the record is published.
  Request::State deliver(Request& request, std::string_view record);
  // Cancels a queued request, and with `takeBack` also one that was granted but not delivered. False: it is settled, or
  // is granted and will be delivered.
  bool cancel(const std::shared_ptr<Request>& request, bool takeBack);

  // These do nothing once `hold` is over.
  void release(Hold hold, Release how);
  // As if it had never been acquired: an abandoned mutex stays abandoned, with the record of `acquired.previousOwner`.
  void giveBack(Hold hold, const Acquired& acquired);
  void report(Hold hold, std::string_view record);
  bool owns(Hold hold);
  bool isLost(Hold hold);
  void keepYoung(Hold hold, std::string_view record);
  // If somebody has removed the lock file, its queue leads nowhere: then the wait starts again, on the new file.
  void keepWaitUseful();

  bool snapshot(bool mayProbe, MutexSnapshot& snapshot, Failure& failure);
  Failure recordFailure();

  // Rests the mutexes that nobody holds or awaits, and that nobody has used since the last call. Returns how many idle
  // ones keep their descriptors for now.
  static size_t restIdle();

 private:
  enum class Rest { unused, idle };  // not used since the last look, or just not in use now
  static size_t restAll(Rest which, const ProcessMutex* but);
  bool restIf(Rest which, bool& isAwake);
  bool restLocked(Rest which, bool& isAwake) REQUIRES(mutex_);
  void use() REQUIRES(mutex_);
  bool isInUse() const REQUIRES(mutex_) { return owner_ != 0 || waiting_ || !line_.empty(); }
  LockResult tryLock(Acquired& acquired, Failure& failure) REQUIRES(mutex_);
  bool startWait(Failure& failure) REQUIRES(mutex_);

  void onWaitEnded() override;
  void takeWaited(const Request* taker = nullptr) REQUIRES(mutex_);
  void waitForNext() REQUIRES(mutex_);
  void nameNext() REQUIRES(mutex_);
  void unlock(Release how) REQUIRES(mutex_);

  const std::string path_;
  Mutex mutex_;
  std::deque<std::shared_ptr<Request>> line_ GUARDED_BY(mutex_);
  Hold owner_ GUARDED_BY(mutex_) = 0;          // the acquisition that has the lock, delivered or not
  bool waiting_ GUARDED_BY(mutex_) = false;    // the platform waits for the first in line
  bool awake_ GUARDED_BY(mutex_) = false;      // the platform may have something to give back
  bool used_ GUARDED_BY(mutex_) = false;       // since the last look of restIdle()

  Mutex nextMutex_;  // never held across a call
  std::shared_ptr<Request> next_ GUARDED_BY(nextMutex_);  // the first in line, for the platform's thread

  std::unique_ptr<PlatformMutex> platform_ PT_GUARDED_BY(mutex_);  // last: its threads call back into the rest
};

}  // namespace os_mutex
