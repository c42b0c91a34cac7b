// For sync.h, whose classes can't be copied. Used as they are there, none of these calls fails.
#pragma once

#include <windows.h>

#include <chrono>

namespace os_mutex {

class NativeMutex {
 public:
  void lock() { ::AcquireSRWLockExclusive(&lock_); }
  bool tryLock() { return ::TryAcquireSRWLockExclusive(&lock_) != 0; }
  void unlock() { ::ReleaseSRWLockExclusive(&lock_); }

 private:
  friend class NativeCondition;
  SRWLOCK lock_ = SRWLOCK_INIT;
};

class NativeCondition {
 public:
  void wait(NativeMutex& mutex) { ::SleepConditionVariableSRW(&condition_, &mutex.lock_, INFINITE, 0); }
  void waitFor(NativeMutex& mutex, std::chrono::nanoseconds limit) {
    // Rounded up: a wait of 0 ms would make a busy loop of the deadline's last millisecond.
    const auto ms = std::chrono::ceil<std::chrono::milliseconds>(limit).count();
    ::SleepConditionVariableSRW(&condition_, &mutex.lock_, static_cast<DWORD>(ms), 0);
  }
  void notifyOne() { ::WakeConditionVariable(&condition_); }
  void notifyAll() { ::WakeAllConditionVariable(&condition_); }

 private:
  CONDITION_VARIABLE condition_ = CONDITION_VARIABLE_INIT;
};

}  // namespace os_mutex
