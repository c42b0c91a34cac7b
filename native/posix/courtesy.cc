#include "courtesy.h"

#include <sched.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace os_mutex {
namespace {

using std::chrono::milliseconds;

constexpr auto kPatience = milliseconds(10);     // a hand-off takes a tenth of a millisecond, on a busy machine a few
constexpr auto kLongPatience = milliseconds(30);
constexpr int kRestFactor = 9;
constexpr auto kYielding = std::chrono::microseconds(200);  // then naps, for machines with fewer cores than processes
constexpr useconds_t kNapUs = 50;
constexpr int kQueueTries = 100;
constexpr int kProbeTries = 100;

MutexLocation queueLocation(MutexLocation location) {
  location.path += "~wait";
  return location;
}

int lockNow(int fd, int kind) {
  for (;;) {
    if (::flock(fd, kind | LOCK_NB) == 0) return 0;
    if (errno != EINTR) return errno;
  }
}

// A query() that has no other way to see locks takes a shared one for a moment (PosixMutex::snapshot), and that must
// not make a try fail. If a shared lock can be had here, the one in the way is shared, so the exclusive lock is tried
// again. A lock that stays shared is another program's.
int lockPastProbes(int fd) {
  int error = lockNow(fd, LOCK_EX);
  for (int attempt = 0; error == EWOULDBLOCK && attempt < kProbeTries; attempt++) {
    if (lockNow(fd, LOCK_SH) != 0) return EWOULDBLOCK;
    ::flock(fd, LOCK_UN);
    ::sched_yield();
    error = lockNow(fd, LOCK_EX);
  }
  return error;
}

}  // namespace

Courtesy::Courtesy(const MutexLocation& location, const OwnRecord& own)
    : location_(queueLocation(location)), own_(own), patience_(kPatience) {}

bool Courtesy::openQueue() {
  if (queue_.isOpen() && !queue_.isStillNamed(location_)) queue_.close();
  Failure ignored;
  return queue_.open(location_, ignored);
}

// While a process steps aside, its repeated tries must not take the lock and give it back each time: the waiter that is
// just waking up might find it taken again and again.
Courtesy::Taken Courtesy::take(const LockFile& lock, std::string_view& header, char (&buffer)[kHeaderSize], int& error) {
  if (isSteppingAside_ && isOthersTurn(lock, lock.read(buffer, sizeof buffer))) return Taken::no;
  error = lockPastProbes(lock.fd());
  if (error != 0) return error == EWOULDBLOCK ? Taken::no : Taken::error;
  header = lock.read(buffer, sizeof buffer);
  if (!isOthersTurn(lock, header)) return Taken::yes;
  ::flock(lock.fd(), LOCK_UN);
  return Taken::no;
}

bool Courtesy::isOthersTurn(const LockFile& lock, std::string_view header) {
  if (isSteppingAside_) {
    isSteppingAside_ = !isDone(header);
    if (!isSteppingAside_ || someoneWaits(lock)) return isSteppingAside_;
    // The waiter has left. That counts as in vain, too: otherwise waiters could come and leave again and again.
    isSteppingAside_ = false;
    takeRest();
  } else if (isMarkedQueued(header) && own_.isIn(header)) {
    const Clock::time_point now = Clock::now();
    isSteppingAside_ = now - lastRelease_ <= patience_ && now >= restUntil_ && someoneWaits(lock);
  }
  return isSteppingAside_;
}

// Whether another owner has had the lock since this process stepped aside, or its patience has ended.
bool Courtesy::isDone(std::string_view header) {
  if (!own_.isIn(header)) {
    patience_ = kPatience;
    return true;
  }
  if (Clock::now() - lastRelease_ <= patience_) return false;
  takeRest();
  patience_ = kLongPatience;
  return true;
}

// After it has stepped aside in vain. If this process comes back only much later, time beyond its patience does not
// count: it was not spent on stepping aside.
void Courtesy::takeRest() {
  const Clock::time_point now = Clock::now();
  restUntil_ = now + kRestFactor * std::min(now - lastRelease_, patience_);
}

bool Courtesy::someoneWaits(const LockFile& lock) {
  if (!openQueue()) return false;
  if (lockNow(queue_.fd(), LOCK_EX) != 0) return true;
  // A waiter marks the file after it has its shared lock, so none can have marked it since this exclusive one: clearing
  // the mark hides nobody.
  lock.write({&kNotQueued, 1}, kQueueMarkOffset);
  ::flock(queue_.fd(), LOCK_UN);
  return false;
}

void Courtesy::stepAside(const LockFile& lock, const FlockWaiter& waiter) {
  char buffer[kHeaderSize];
  while (!isDone(lock.read(buffer, sizeof buffer))) {
    // isSteppingAside_ stays true: the next look finds out whether that was in vain.
    if (waiter.isCalledOff()) return;
    if (Clock::now() - lastRelease_ < kYielding) ::sched_yield();
    else ::usleep(kNapUs);
  }
  isSteppingAside_ = false;
}

void Courtesy::Place::enter(const LockFile& lock, const FlockWaiter& waiter) {
  if (courtesy_.isSteppingAside_) courtesy_.stepAside(lock, waiter);
  if (!courtesy_.openQueue()) return;
  // Refused only for the moment in which another process looks (someoneWaits). Never blocks: that process may be
  // stopped.
  for (int attempt = 0; attempt < kQueueTries; attempt++) {
    if (lockNow(courtesy_.queue_.fd(), LOCK_SH) == 0) {
      entered_ = true;
      lock.write({&kQueued, 1}, kQueueMarkOffset);
      return;
    }
    ::sched_yield();
  }
}

void Courtesy::Place::leave() {
  if (entered_) ::flock(courtesy_.queue_.fd(), LOCK_UN);
  entered_ = false;
}

void Courtesy::keepYoung() const {
  if (queue_.isOpen()) queue_.touch();
}

}  // namespace os_mutex
