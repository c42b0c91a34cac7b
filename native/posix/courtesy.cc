#include "courtesy.h"

#include <sched.h>
#include <sys/file.h>
#include <unistd.h>

#include <cstring>

namespace os_mutex {
namespace {

constexpr auto kPatience = std::chrono::milliseconds(10);
constexpr auto kYielding = std::chrono::microseconds(200);  // then naps, for machines with fewer cores than processes
constexpr useconds_t kNapUs = 50;
constexpr int kQueueTries = 100;

MutexLocation queueLocation(MutexLocation location) {
  location.path += "~wait";
  return location;
}

}  // namespace

Courtesy::Courtesy(const MutexLocation& location) : location_(queueLocation(location)) {}

bool Courtesy::openQueue() {
  if (queue_.isOpen() && !queue_.isStillNamed(location_)) queue_.close();
  Failure ignored;
  return queue_.open(location_, ignored);
}

void Courtesy::wrote(std::string_view record) { std::memcpy(lastHeader_, record.data() + 1, kCompared); }

bool Courtesy::isOwnRecord(std::string_view bytes) const {
  // All but the state byte: a release has changed it.
  return bytes.size() >= kHeaderSize && std::memcmp(bytes.data() + kStateOffset + 1, lastHeader_, kCompared) == 0;
}

bool Courtesy::mustStepAside(const LockFile& lock, std::string_view bytes) {
  mustStepAside_ = false;
  if (!isMarkedQueued(bytes)) return false;
  if (Clock::now() - lastRelease_ > kPatience || !isOwnRecord(bytes) || !openQueue()) return false;
  if (::flock(queue_.fd(), LOCK_EX | LOCK_NB) != 0) return mustStepAside_ = true;
  // Nobody waits. A waiter marks the file after it has its shared lock, so none can have marked it since we have the
  // exclusive one: clearing the mark hides nobody.
  lock.write({&kNotQueued, 1}, kQueueMarkOffset);
  ::flock(queue_.fd(), LOCK_UN);
  return false;
}

void Courtesy::stepAside(const LockFile& lock, const FlockWaiter& waiter) const {
  char buffer[kHeaderSize];
  while (!waiter.isCalledOff() && isOwnRecord(lock.read(buffer, sizeof buffer))) {
    const auto passed = Clock::now() - lastRelease_;
    if (passed > kPatience) return;
    if (passed < kYielding) ::sched_yield();
    else ::usleep(kNapUs);
  }
}

void Courtesy::queueUp(const LockFile& lock, const FlockWaiter& waiter) {
  if (mustStepAside_) stepAside(lock, waiter);
  if (!openQueue()) return;
  // Refused only for the moment in which somebody looks (mustStepAside). Never blocks: that somebody may be stopped.
  for (int attempt = 0; attempt < kQueueTries; attempt++) {
    if (::flock(queue_.fd(), LOCK_SH | LOCK_NB) == 0) {
      lock.write({&kQueued, 1}, kQueueMarkOffset);
      return;
    }
    ::sched_yield();
  }
}

void Courtesy::leaveQueue() {
  mustStepAside_ = false;
  if (queue_.isOpen()) ::flock(queue_.fd(), LOCK_UN);
}

}  // namespace os_mutex
