// What the scenarios of waits.cc share: checks, and a waiter on a thread of its own.
#pragma once

#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "../../../native/posix/endable_flock.h"
#include "../../../native/posix/flock_waiter.h"
#include "../../../native/posix/lock_file.h"

using os_mutex::Descriptor;
using os_mutex::EndableFlock;
using os_mutex::FlockWaiter;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

namespace {

// Far less than the 2 s after which a waiter on macOS tries again unasked: that hides no lost wake-up here.
constexpr auto kAtOnce = milliseconds(1500);
constexpr auto kStillBlocked = milliseconds(100);

const char* path;

#define CHECK(what) \
  if (!(what)) std::printf("line %d: not %s (errno %d)\n", __LINE__, #what, errno), std::fflush(stdout), std::_Exit(1)

Descriptor openFile() {
  Descriptor file(::open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  CHECK(file);
  return file;
}

bool tryLock(const Descriptor& file) { return ::flock(file.get(), LOCK_EX | LOCK_NB) == 0; }
void unlock(const Descriptor& file) { CHECK(::flock(file.get(), LOCK_UN) == 0); }

bool isFree() {
  const Descriptor file = openFile();
  if (!tryLock(file)) return false;
  unlock(file);
  return true;
}

constexpr int kDescriptorLimit = 256;

int openDescriptors() {
  int count = 0;
  for (int fd = 0; fd < kDescriptorLimit; fd++) count += ::fcntl(fd, F_GETFD) >= 0;
  return count;
}

// Those that a program would get that this one starts.
int inheritedDescriptors() {
  int count = 0;
  for (int fd = 0; fd < kDescriptorLimit; fd++) count += ::fcntl(fd, F_GETFD) == 0;
  return count;
}

// A thread in EndableFlock, with steps that the test sees and decides on.
class Waiter {
 public:
  explicit Waiter(const Descriptor& file) : fd_(file.get()) {
    const char* call = "";
    CHECK(flock_->prepare(call) == 0);
    CHECK(pthread_create(&thread_, nullptr, &Waiter::main, this) == 0);
  }
  void letIn() { mayEnter_.store(true); }
  bool isBack() const { return isBack_.load(); }
  bool comesBack() const {
    const auto until = Clock::now() + kAtOnce;
    while (!isBack() && Clock::now() < until) std::this_thread::sleep_for(std::chrono::microseconds(100));
    return isBack();
  }
  bool isBlocked() const {
    std::this_thread::sleep_for(kStillBlocked);
    return !isBack();
  }
  int join() {
    pthread_join(thread_, nullptr);
    return error_;
  }
  void end() {
    const auto from = Clock::now();
    flock_->end(thread_);
    CHECK(Clock::now() - from < kAtOnce);
  }
  int error() const { return error_; }
  void holdBack() { mayLeave_.store(false); }
  void letOut() { mayLeave_.store(true); }

 private:
  static void* main(void* self) {
    int ignored;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &ignored);
    static_cast<Waiter*>(self)->run();
    return nullptr;
  }
  void run() {
    while (!mayEnter_.load()) std::this_thread::yield();
    int error = EINTR;
    while (error == EINTR) error = flock_->lock(fd_);
    error_ = error;
    isBack_.store(true);
    while (!mayLeave_.load()) std::this_thread::yield();
  }

  std::unique_ptr<EndableFlock> flock_ = EndableFlock::make();
  const int fd_;
  int error_ = -1;
  std::atomic<bool> mayEnter_{false}, mayLeave_{true}, isBack_{false};
  pthread_t thread_{};
};

void granted(Waiter& waiter, const Descriptor& file) {
  CHECK(waiter.comesBack());
  CHECK(waiter.join() == 0);
  CHECK(!isFree());
  unlock(file);
  CHECK(isFree());
}

}  // namespace
