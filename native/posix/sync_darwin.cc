#include <time.h>

#include "sync_native.h"

namespace os_mutex {
namespace {

constexpr long kSecond = 1'000'000'000;

}  // namespace

NativeCondition::NativeCondition() { pthread_cond_init(&condition_, nullptr); }

// macOS has no pthread_condattr_setclock. Its own call takes a time span, which no change of the time of day touches.
void NativeCondition::waitFor(NativeMutex& mutex, std::chrono::nanoseconds limit) {
  timespec span;
  span.tv_sec = static_cast<time_t>(limit.count() / kSecond);
  span.tv_nsec = static_cast<long>(limit.count() % kSecond);
  pthread_cond_timedwait_relative_np(&condition_, &mutex.mutex_, &span);
}

}  // namespace os_mutex
