#include "process_mutex.h"

#include <algorithm>
#include <map>
#include <utility>

namespace os_mutex {
namespace {

struct Registry {
  std::mutex mutex;
  std::map<std::string, std::weak_ptr<ProcessMutex>> entries;
};

// Shared by all environments of the process. Never destroyed: at exit, threads may still be on their way out of it.
Registry& registry() {
  static Registry* const instance = std::make_unique<Registry>().release();
  return *instance;
}

}  // namespace

std::shared_ptr<ProcessMutex> ProcessMutex::at(const MutexLocation& location) {
  Registry& all = registry();
  std::lock_guard<std::mutex> lock(all.mutex);
  std::weak_ptr<ProcessMutex>& entry = all.entries[location.path];
  std::shared_ptr<ProcessMutex> found = entry.lock();
  if (!found) {
    found = std::make_shared<ProcessMutex>(location);
    entry = found;
  }
  return found;
}

ProcessMutex::ProcessMutex(const MutexLocation& location)
    : path_(location.path), platform_(PlatformMutex::open(location, *this)) {}

ProcessMutex::~ProcessMutex() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (std::exchange(waiting_, false)) platform_->cancelWait();
  }
  // By now another thread may have made a successor under the same path, whose entry stays.
  Registry& all = registry();
  std::lock_guard<std::mutex> lock(all.mutex);
  const auto entry = all.entries.find(path_);
  if (entry != all.entries.end() && entry->second.expired()) all.entries.erase(entry);
}

LockResult ProcessMutex::tryAcquire(std::string_view record, Hold& hold, Acquired& acquired, Failure& failure) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (owner_ != 0 || waiting_ || !line_.empty()) return LockResult::busy;
  const LockResult result = platform_->tryLock(acquired, failure);
  if (result == LockResult::acquired) {
    hold = owner_ = ++lastHold_;
    platform_->writeRecord(record);
  }
  return result;
}

void ProcessMutex::enqueue(const std::shared_ptr<Request>& request) {
  std::lock_guard<std::mutex> lock(mutex_);
  line_.push_back(request);
  if (!waiting_) waitForNext();
}

// Sends the first in line to the kernel's queue. It goes there while the owner is still in this process, so that other
// processes' waiters and ours are served in the order of their coming.
void ProcessMutex::waitForNext() {
  while (!line_.empty()) {
    Failure failure;
    waiting_ = platform_->startWait(failure);
    if (waiting_) return;
    const std::shared_ptr<Request> request = line_.front();
    line_.pop_front();
    request->state = Request::State::failed;
    request->failure = failure;
    request->wake();
  }
}

void ProcessMutex::onWaitEnded() {
  std::lock_guard<std::mutex> lock(mutex_);
  takeWaited();
}

// Looks whether the wait has ended, and settles the first in line if so.
void ProcessMutex::takeWaited() {
  // With an owner: the lock file vanished under it, and the wait went through on a new one. The owner comes first all the
  // same; unlock() looks again.
  if (!waiting_ || owner_ != 0 || !platform_->waitHasEnded()) return;
  const std::shared_ptr<Request> request = line_.front();  // not empty: whoever empties it ends the wait
  // Woken before the outcome is known: its thread needs longer to get here than the outcome takes, and finds mutex_ locked
  // until then. Woken in vain (the wait has to begin anew), it finds itself queued still.
  request->wake();
  const LockResult result = platform_->finishWait(request->acquired, request->failure);
  if (result == LockResult::busy) return;
  waiting_ = false;
  line_.pop_front();
  if (result == LockResult::acquired) {
    request->state = Request::State::granted;
    request->hold = owner_ = ++lastHold_;
  } else {
    request->state = Request::State::failed;
  }
  waitForNext();
}

Request::State ProcessMutex::deliver(Request& request, std::string_view record) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (request.state == Request::State::granted) {
    request.state = Request::State::delivered;
    platform_->writeRecord(record);
  }
  return request.state;
}

bool ProcessMutex::cancel(const std::shared_ptr<Request>& request, bool takeBack) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (request->state == Request::State::granted && takeBack) {
    request->state = Request::State::ended;
    unlock(Release::undelivered);
    return true;
  }
  if (request->state != Request::State::queued) return false;
  request->state = Request::State::ended;
  line_.erase(std::find(line_.begin(), line_.end(), request));
  if (line_.empty() && waiting_) {
    waiting_ = false;
    platform_->cancelWait();
  }
  return true;
}

void ProcessMutex::release(Hold hold, Release how) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (hold != 0 && hold == owner_) unlock(how);
}

void ProcessMutex::unlock(Release how) {
  owner_ = 0;
  platform_->unlock(how);
  takeWaited();
}

void ProcessMutex::report(Hold hold, std::string_view record) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (hold != 0 && hold == owner_) platform_->writeRecord(record);
}

bool ProcessMutex::owns(Hold hold) {
  std::lock_guard<std::mutex> lock(mutex_);
  return hold != 0 && hold == owner_;
}

bool ProcessMutex::snapshot(MutexSnapshot& snapshot, Failure& failure) {
  std::lock_guard<std::mutex> lock(mutex_);
  return platform_->snapshot(snapshot, failure);
}

}  // namespace os_mutex
