#include "process_mutex.h"

#include <algorithm>
#include <map>

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
    for (auto it = all.entries.begin(); it != all.entries.end();) it = it->second.expired() ? all.entries.erase(it) : ++it;
  }
  return found;
}

ProcessMutex::ProcessMutex(const MutexLocation& location) : platform_(PlatformMutex::open(location, *this)) {}

ProcessMutex::~ProcessMutex() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (waiting_) platform_->cancelWait();
}

LockResult ProcessMutex::tryAcquire(const std::string& record, Hold& hold, Acquired& acquired, Failure& failure) {
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
  // The lock file vanished under an owner of this process, and the wait went through on a new one: the owner comes first all
  // the same. unlock() calls again.
  if (!waiting_ || owner_ != 0) return;
  Acquired acquired;
  Failure failure;
  const LockResult result = platform_->finishWait(acquired, failure);
  if (result != LockResult::busy) settleWait(result, acquired, failure);
}

void ProcessMutex::settleWait(LockResult result, const Acquired& acquired, const Failure& failure) {
  waiting_ = false;
  const std::shared_ptr<Request> request = line_.front();  // not empty: whoever empties it ends the wait
  line_.pop_front();
  if (result == LockResult::acquired) {
    request->state = Request::State::granted;
    request->acquired = acquired;
    request->hold = owner_ = ++lastHold_;
  } else {
    request->state = Request::State::failed;
    request->failure = failure;
  }
  request->wake();
  waitForNext();
}

Request::State ProcessMutex::deliver(Request& request, const std::string& record) {
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
  if (!waiting_) return;
  // Usually still waiting, and then this is `busy`. See onWaitEnded.
  Acquired acquired;
  Failure failure;
  const LockResult result = platform_->finishWait(acquired, failure);
  if (result != LockResult::busy) settleWait(result, acquired, failure);
}

void ProcessMutex::report(Hold hold, const std::string& record) {
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
