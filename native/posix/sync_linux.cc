#include <time.h>

#include "sync_native.h"

namespace os_mutex {
namespace {

constexpr long kSecond = 1'000'000'000;

}  // namespace

NativeCondition::NativeCondition() {
  pthread_condattr_t attributes;
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_cond_init(&condition_, &attributes);
  pthread_condattr_destroy(&attributes);
}

void NativeCondition::waitFor(NativeMutex& mutex, std::chrono::nanoseconds limit) {
  timespec deadline;
  clock_gettime(CLOCK_MONOTONIC, &deadline);
  const auto nanoseconds = deadline.tv_nsec + limit.count();
  deadline.tv_sec += static_cast<time_t>(nanoseconds / kSecond);
  deadline.tv_nsec = static_cast<long>(nanoseconds % kSecond);
  pthread_cond_timedwait(&condition_, &mutex.mutex_, &deadline);
}

}  // namespace os_mutex
