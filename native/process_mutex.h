// All of this process's dealings with one mutex: every instance in every thread shares the one ProcessMutex of its location.
// It keeps the line (first come, first served), and sends one of them at a time to wait in the kernel.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>

#include "platform_mutex.h"

namespace os_mutex {

// Names one acquisition; 0 is none.
using Hold = uint64_t;

// One acquire in the line.
class Request {
 public:
  enum class State {
    queued,
    granted,    // this process has the lock on behalf of the request, which has not heard of it yet
    delivered,  // the owner has it
    failed,
    ended,      // taken out of the line, or taken back
  };

  virtual ~Request() = default;
  // The state may have changed, or may change now; its thread should look (see deliver). Called on any thread, with or
  // without the ProcessMutex locked: only passes the news on.
  virtual void wake() = 0;

  // All below: guarded by the ProcessMutex's lock.
  State state = State::queued;
  Acquired acquired;
  Failure failure;
  Hold hold = 0;  // given when it gets in line: its owner's, should it come to that
};

class ProcessMutex final : private PlatformMutex::Listener {
 public:
  static std::shared_ptr<ProcessMutex> at(const MutexLocation& location);
  explicit ProcessMutex(const MutexLocation& location);
  ~ProcessMutex() override;

  // Takes the lock if it is free and nobody is in line. On success `record` is published and `hold` names it.
  LockResult tryAcquire(std::string_view record, Hold& hold, Acquired& acquired, Failure& failure);
  void enqueue(const std::shared_ptr<Request>& request);
  // What a woken request does on its own thread: granted becomes delivered, and the record is published.
  Request::State deliver(Request& request, std::string_view record);
  // The same, but only for a grant of which there is nothing to tell. False: look with deliver().
  bool deliverPlain(Request& request, std::string_view record);
  // Takes the request out of the line, and with `takeBack` also out of a grant that was not delivered.
  // False: it is settled, or granted and to be delivered.
  bool cancel(const std::shared_ptr<Request>& request, bool takeBack);

  // These do nothing once `hold` is over.
  void release(Hold hold, Release how);
  void report(Hold hold, std::string_view record);
  bool owns(Hold hold);

  bool snapshot(MutexSnapshot& snapshot, Failure& failure);
  Failure recordFailure();

 private:
  void onWaitEnded() override;
  void takeWaited(const Request* taker = nullptr);
  void waitForNext();
  void nameNext();
  void unlock(Release how);
  void publish(Request& request, std::string_view record);

  const std::string path_;
  std::mutex mutex_;  // guards all below and every call into platform_
  std::deque<std::shared_ptr<Request>> line_;
  Hold owner_ = 0;  // the acquisition that has the lock, delivered or not
  Hold lastHold_ = 0;
  bool waiting_ = false;  // the platform waits for the first in line

  std::mutex nextMutex_;  // guards next_ alone, and is never held across a call
  std::shared_ptr<Request> next_;  // the first in line, for the platform's thread

  std::unique_ptr<PlatformMutex> platform_;  // last: its threads call back into the rest
};

}  // namespace os_mutex
