#include "owner_thread.h"

namespace os_mutex {
namespace {

constexpr auto kIdleLimit = std::chrono::seconds(5);
constexpr SIZE_T kStackSize = 256 * 1024;

// Shown by debuggers. Not there on every Windows 10.
void nameThisThread(const wchar_t* name) {
  using SetThreadDescription = HRESULT(WINAPI*)(HANDLE, PCWSTR);
  const FARPROC found = ::GetProcAddress(::GetModuleHandleW(L"kernel32.dll"), "SetThreadDescription");
  if (found != nullptr) reinterpret_cast<SetThreadDescription>(reinterpret_cast<void*>(found))(::GetCurrentThread(), name);
}

}  // namespace

OwnerThread::~OwnerThread() { end(); }

void OwnerThread::post(Command command) {
  command_ = command;
  busy_ = true;
}

// Gives `command` to the thread, or to a new one if there is none or if the old one has expired and takes no orders.
bool OwnerThread::order(Command command, DWORD& error) {
  if (thread_) {
    bool expired;
    {
      const Guard guard(lock_);
      expired = expired_;
      if (!expired) post(command);
    }
    if (!expired) {
      ordered_.notifyOne();
      return true;
    }
    join();
  }
  if (!cancel_) cancel_ = Handle(::CreateEventW(nullptr, TRUE, FALSE, nullptr));
  if (cancel_) {
    {
      const Guard guard(lock_);
      post(command);
    }
    const DWORD flags = STACK_SIZE_PARAM_IS_A_RESERVATION;
    thread_ = Handle(::CreateThread(nullptr, kStackSize, &OwnerThread::main, this, flags, nullptr));
  }
  if (thread_) return true;
  error = ::GetLastError();
  forget();
  return false;
}

void OwnerThread::end() {
  if (!thread_) return;
  {
    const Guard guard(lock_);
    post(Command::end);
  }
  ordered_.notifyOne();
  join();
}

// Waits for the thread to be gone; by then the kernel has taken from it what it owned.
void OwnerThread::join() {
  ::WaitForSingleObject(thread_.get(), INFINITE);
  thread_ = Handle();
  forget();
}

void OwnerThread::forget() {
  const Guard guard(lock_);
  command_ = Command::none;
  busy_ = false;
  expired_ = false;
  owns_ = false;
}

// The thread answers no matter what the caller has locked: apart from lock_, it takes no lock that a caller may hold,
// not even while it reports that a wait has ended.
void OwnerThread::awaitAnswer() {
  const Guard guard(lock_);
  while (busy_) answered_.wait(lock_);
}

void OwnerThread::answer() {
  {
    const Guard guard(lock_);
    busy_ = false;
  }
  answered_.notifyOne();
}

WaitOutcome OwnerThread::tryLock(HANDLE mutex, DWORD& error) {
  mutex_ = mutex;
  if (!order(Command::tryLock, error)) return WaitOutcome::failed;
  awaitAnswer();
  error = error_;
  return outcome_;
}

bool OwnerThread::startWait(HANDLE mutex, DWORD& error) {
  mutex_ = mutex;
  phase_.store(Phase::waiting);
  if (order(Command::wait, error)) return true;
  phase_.store(Phase::idle);
  return false;
}

WaitOutcome OwnerThread::finishWait(DWORD& error) {
  // The thread may have set phase_ and not have answered yet.
  awaitAnswer();
  phase_.store(Phase::idle);
  error = error_;
  return outcome_;
}

WaitOutcome OwnerThread::cancelWait() {
  Phase expected = Phase::waiting;
  const bool first = phase_.compare_exchange_strong(expected, Phase::calledOff);
  // The thread may be anywhere before, in or after its wait; the event stays set until it has answered, so it can't be
  // missed.
  if (first) ::SetEvent(cancel_.get());
  awaitAnswer();
  if (first) ::ResetEvent(cancel_.get());
  phase_.store(Phase::idle);
  return outcome_;
}

void OwnerThread::unlock() {
  DWORD ignored;  // can't fail: the thread that owns is there
  order(Command::unlock, ignored);
  awaitAnswer();
}

DWORD WINAPI OwnerThread::main(void* self) {
  nameThisThread(L"os-mutex");
  static_cast<OwnerThread*>(self)->run();
  return 0;
}

bool OwnerThread::nextCommand(Command& command) {
  const auto idleUntil = Condition::Clock::now() + kIdleLimit;
  const Guard guard(lock_);
  while (command_ == Command::none) {
    if (owns_) {
      ordered_.wait(lock_);
    } else if (!ordered_.waitUntil(lock_, idleUntil)) {
      expired_ = true;
      return false;
    }
  }
  command = command_;
  command_ = Command::none;
  return command != Command::end;
}

WaitOutcome OwnerThread::outcomeOf(DWORD result) {
  error_ = result == WAIT_FAILED ? ::GetLastError() : 0;
  switch (result) {
    case WAIT_OBJECT_0: return WaitOutcome::acquired;
    case WAIT_ABANDONED_0: return WaitOutcome::abandoned;
    case WAIT_FAILED: return WaitOutcome::failed;
    default: return WaitOutcome::busy;  // timed out, or called off
  }
}

void OwnerThread::wait() {
  // The mutex first: if both are signalled, the lower index is reported and taken.
  const HANDLE handles[] = {mutex_, cancel_.get()};
  outcome_ = outcomeOf(::WaitForMultipleObjects(2, handles, FALSE, INFINITE));
  owns_ = outcome_ == WaitOutcome::acquired || outcome_ == WaitOutcome::abandoned;
}

void OwnerThread::run() {
  Command command = Command::none;
  while (nextCommand(command)) {
    switch (command) {
      case Command::tryLock:
        outcome_ = outcomeOf(::WaitForSingleObject(mutex_, 0));
        owns_ = outcome_ == WaitOutcome::acquired || outcome_ == WaitOutcome::abandoned;
        answer();
        break;
      case Command::wait: {
        wait();
        Phase expected = Phase::waiting;
        const bool first = phase_.compare_exchange_strong(expected, Phase::ended);
        answer();
        if (first) client_.waitEnded();
        break;
      }
      case Command::unlock:
        ::ReleaseMutex(mutex_);
        owns_ = false;
        answer();
        break;
      case Command::none:
      case Command::end: break;
    }
  }
}

}  // namespace os_mutex
