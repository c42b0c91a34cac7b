#include "process_mutex.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <utility>
#include <vector>

namespace os_mutex {
namespace {

struct Registry {
  Mutex mutex;
  std::map<std::string, std::weak_ptr<ProcessMutex>> entries GUARDED_BY(mutex);
};

// Shared by all environments of the process. Never destroyed: at exit, threads may still be using it.
Registry& registry() {
  static Registry* const instance = std::make_unique<Registry>().release();
  return *instance;
}

// Unused mutexes keep their descriptors for the next acquire. When more mutexes than this have descriptors, the unused
// ones must rest. The limit grows with the number of mutexes in use, so that going through all of them stays rare.
constexpr size_t kAwakeLimit = 64;
std::atomic<size_t> awakeLimit{kAwakeLimit};
std::atomic<size_t> awakeCount{0};

}  // namespace

Hold nextHold() {
  static std::atomic<Hold> last{0};
  return ++last;
}

std::shared_ptr<ProcessMutex> ProcessMutex::at(const MutexLocation& location) {
  Registry& all = registry();
  Guard guard(all.mutex);
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
    Guard guard(mutex_);
    if (std::exchange(waiting_, false)) platform_->cancelWait();
    if (std::exchange(awake_, false)) awakeCount--;
  }
  // By now another thread may have made a successor under the same path, whose entry stays.
  Registry& all = registry();
  Guard guard(all.mutex);
  const auto entry = all.entries.find(path_);
  if (entry != all.entries.end() && entry->second.expired()) all.entries.erase(entry);
}

LockResult ProcessMutex::tryAcquire(Hold hold, std::string_view record, Acquired& acquired, Failure& failure) {
  Guard guard(mutex_);
  if (isInUse()) return LockResult::busy;
  const LockResult result = tryLock(acquired, failure);
  if (result == LockResult::acquired) {
    owner_ = hold;
    acquired.unrecorded = !platform_->writeRecord(record);
  }
  return result;
}

void ProcessMutex::enqueue(const std::shared_ptr<Request>& request) {
  Guard guard(mutex_);
  line_.push_back(request);
  nameNext();
  if (!waiting_) waitForNext();
}

void ProcessMutex::use() {
  used_ = true;
  if (awake_) return;
  awake_ = true;
  if (++awakeCount <= awakeLimit) return;
  awakeLimit = std::max(kAwakeLimit, 2 * restAll(Rest::idle, this));
}

// If no descriptor is free, mutexes that nobody uses may have some to give back.
LockResult ProcessMutex::tryLock(Acquired& acquired, Failure& failure) {
  use();
  const LockResult result = platform_->tryLock(acquired, failure);
  if (result != LockResult::failed || failure.kind != FailureKind::noDescriptors) return result;
  restAll(Rest::idle, this);
  return platform_->tryLock(acquired, failure);
}

bool ProcessMutex::startWait(Failure& failure) {
  use();
  if (platform_->startWait(failure)) return true;
  if (failure.kind != FailureKind::noDescriptors) return false;
  restAll(Rest::idle, this);
  return platform_->startWait(failure);
}

size_t ProcessMutex::restIdle() { return restAll(Rest::unused, nullptr); }

// `but`: the mutex that the caller has locked. The others are only tried, so two threads in here can't wait for each
// other; a mutex that is locked counts as in use. The pointers are copied first, because the last pointer to a mutex
// may be dropped here, which removes its entry from the registry.
size_t ProcessMutex::restAll(Rest which, const ProcessMutex* but) {
  std::vector<std::shared_ptr<ProcessMutex>> all;
  {
    Registry& registered = registry();
    Guard guard(registered.mutex);
    for (const auto& [path, entry] : registered.entries) {
      if (std::shared_ptr<ProcessMutex> found = entry.lock()) all.push_back(std::move(found));
    }
  }
  size_t awake = 0;
  size_t idle = 0;
  for (const std::shared_ptr<ProcessMutex>& each : all) {
    bool isAwake = true;
    if (each.get() != but && each->restIf(which, isAwake)) idle++;
    if (isAwake) awake++;
  }
  return which == Rest::idle ? awake : idle;
}

// True: it is idle and keeps its descriptors for now.
bool ProcessMutex::restIf(Rest which, bool& isAwake) {
  if (!mutex_.tryLock()) return true;
  const bool isKept = restLocked(which, isAwake);
  mutex_.unlock();
  return isKept;
}

bool ProcessMutex::restLocked(Rest which, bool& isAwake) {
  isAwake = awake_;
  if (!awake_ || isInUse()) return false;
  if (which == Rest::unused && std::exchange(used_, false)) return true;
  platform_->rest();
  awake_ = isAwake = false;
  awakeCount--;
  return false;
}

void ProcessMutex::nameNext() {
  std::shared_ptr<Request> first = line_.empty() ? nullptr : line_.front();
  Guard guard(nextMutex_);
  next_.swap(first);
}

// Puts the first in line into the kernel's queue, even while the owner is still in this process. So other processes'
// waiters and ours are served in the order in which they came.
void ProcessMutex::waitForNext() {
  while (!line_.empty()) {
    Failure failure;
    waiting_ = startWait(failure);
    if (waiting_) return;
    const std::shared_ptr<Request> request = line_.front();
    line_.pop_front();
    nameNext();
    request->state = Request::State::failed;
    request->failure = failure;
    request->wake();
  }
}

// Runs on the platform's thread, which must not wait for mutex_: the thread that holds mutex_ may be waiting for this
// one, for example while the owner thread releases a Win32 mutex. So it only rings, and the first in line takes the
// outcome on its own thread. The ring can't get lost: waitHasEnded() is true before next_ is read here, and cancel()
// checks waitHasEnded() after it has changed next_. So at least one of the two sees both.
void ProcessMutex::onWaitEnded() {
  std::shared_ptr<Request> first;
  {
    Guard guard(nextMutex_);
    first = next_;
  }
  if (first) first->wake();
}

// Looks whether the wait has ended, and settles the first in line if so. `taker`: the request whose thread is looking,
// and need not be woken.
void ProcessMutex::takeWaited(const Request* taker) {
  // If there is an owner, its lock file vanished, and the wait went through on a new one. The owner still comes first:
  // unlock() looks again.
  if (!waiting_ || owner_ != 0 || !platform_->waitHasEnded()) return;
  const std::shared_ptr<Request> request = line_.front();  // not empty: emptying it ends the wait, too
  const LockResult result = platform_->finishWait(request->acquired, request->failure);
  if (result == LockResult::busy) return;
  waiting_ = false;
  line_.pop_front();
  nameNext();
  if (result == LockResult::acquired) {
    request->state = Request::State::granted;
    owner_ = request->hold;
  } else {
    request->state = Request::State::failed;
  }
  if (request.get() != taker) request->wake();
  waitForNext();
}

Request::State ProcessMutex::deliver(Request& request, std::string_view record) {
  Guard guard(mutex_);
  takeWaited(&request);
  if (request.state == Request::State::granted) {
    request.state = Request::State::delivered;
    request.acquired.unrecorded = !platform_->writeRecord(record);
  }
  return request.state;
}

bool ProcessMutex::cancel(const std::shared_ptr<Request>& request, bool takeBack) {
  Guard guard(mutex_);
  takeWaited();
  if (request->state == Request::State::granted && takeBack) {
    request->state = Request::State::ended;
    unlock(Release::undelivered);
    return true;
  }
  if (request->state != Request::State::queued) return false;
  request->state = Request::State::ended;
  line_.erase(std::find(line_.begin(), line_.end(), request));
  nameNext();
  if (!line_.empty()) {
    takeWaited();
  } else if (waiting_) {
    waiting_ = false;
    platform_->cancelWait();
  }
  return true;
}

void ProcessMutex::release(Hold hold, Release how) {
  Guard guard(mutex_);
  if (hold != 0 && hold == owner_) unlock(how);
}

void ProcessMutex::giveBack(Hold hold, const Acquired& acquired) {
  Guard guard(mutex_);
  if (hold == 0 || hold != owner_) return;
  if (acquired.abandoned) platform_->writeRecord(acquired.previousOwner);
  unlock(acquired.abandoned ? Release::abandoned : Release::clean);
}

void ProcessMutex::unlock(Release how) {
  owner_ = 0;
  used_ = true;
  platform_->unlock(how);
  takeWaited();
}

void ProcessMutex::report(Hold hold, std::string_view record) {
  Guard guard(mutex_);
  if (hold != 0 && hold == owner_) platform_->writeRecord(record);
}

bool ProcessMutex::owns(Hold hold) {
  Guard guard(mutex_);
  return hold != 0 && hold == owner_;
}

bool ProcessMutex::isLost(Hold hold) {
  Guard guard(mutex_);
  return hold != 0 && hold == owner_ && platform_->isLost();
}

void ProcessMutex::keepYoung(Hold hold, std::string_view record) {
  Guard guard(mutex_);
  if (hold != 0 && hold == owner_) platform_->keepYoung(record);
}

// The first in line stays there and waits again, or gets the failure if no new wait can be started.
void ProcessMutex::keepWaitUseful() {
  Guard guard(mutex_);
  if (!waiting_ || owner_ != 0 || platform_->waitHasEnded() || !platform_->waitsInVain()) return;
  waiting_ = false;
  platform_->cancelWait();
  waitForNext();
}

bool ProcessMutex::snapshot(bool mayProbe, MutexSnapshot& snapshot, Failure& failure) {
  Guard guard(mutex_);
  return platform_->snapshot(mayProbe, snapshot, failure);
}

Failure ProcessMutex::recordFailure() {
  Guard guard(mutex_);
  return platform_->recordFailure();
}

}  // namespace os_mutex
