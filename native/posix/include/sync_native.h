// For sync.h, whose classes can't be copied. Used as they are there, none of these calls fails.
#pragma once

#include <pthread.h>

#include <chrono>

namespace os_mutex {

class NativeMutex {
 public:
  ~NativeMutex() { pthread_mutex_destroy(&mutex_); }
  void lock() { pthread_mutex_lock(&mutex_); }
  bool tryLock() { return pthread_mutex_trylock(&mutex_) == 0; }
  void unlock() { pthread_mutex_unlock(&mutex_); }

 private:
  friend class NativeCondition;
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
};

class NativeCondition {
 public:
  NativeCondition();
  ~NativeCondition() { pthread_cond_destroy(&condition_); }
  void wait(NativeMutex& mutex) { pthread_cond_wait(&condition_, &mutex.mutex_); }
  void waitFor(NativeMutex& mutex, std::chrono::nanoseconds limit);
  void notifyOne() { pthread_cond_signal(&condition_); }
  void notifyAll() { pthread_cond_broadcast(&condition_); }

 private:
  pthread_cond_t condition_;
};

}  // namespace os_mutex
