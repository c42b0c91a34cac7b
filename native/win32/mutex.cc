// The platform mutex of Windows: CreateMutexExW. The kernel queues the waiters, hands the mutex over, and takes it from
// a thread that ends. It reports that to the next owner (WAIT_ABANDONED).
//
// The kernel forgets an abandoned mutex with its last handle. So the mark of an owner that did not release counts as
// well (see owner_record.h), but only if the kernel may have forgotten. As soon as this process has a handle, the
// kernel forgets nothing, and a mark made later adds nothing to what it reports. So the record is looked at only once,
// when the handle is there:
//
//   1. It is marked, and the mutex is free: the marked owner died. Perhaps that was reported to nobody.
//   2. It is marked, the mutex is held, and the marked process is gone: a program that keeps no record holds it.
//      Perhaps the death was reported to nobody.
//   3. It is marked, the mutex is held, and the marked process runs: the mark is the present owner's. The kernel will
//      report its death.
//
// In 1 and 2 the bytes are kept, and an acquire that still finds them reports `abandoned`:
//
//   4. Another owner of ours came first: it got the report, and its own record is there now. The bytes differ.
//   5. The marked owner released between the look at the record and the look at the mutex: the state is free, and there
//      is no mark any more.
//   6. The kernel reported the death to a program that keeps no record, before this process came: it is reported again.
//      That can't be known, and one repair too many is better than one too few.
#include "handle.h"
#include <winternl.h>

#include <charconv>
#include <memory>

#include "../owner_record.h"
#include "owner_thread.h"
#include "../platform_mutex.h"
#include "../process_identity.h"
#include "record_file.h"
#include "security.h"

namespace os_mutex {
namespace {

constexpr DWORD kAccess = SYNCHRONIZE | MUTEX_MODIFY_STATE;
constexpr int kTornReads = 100;

// NtQueryMutant: the only way to look at a mutex without taking it. Exported by ntdll.dll since Windows NT 3.5.
struct MutantBasicInformation {
  LONG currentCount;  // 1: free
  BOOLEAN ownedByCaller;
  BOOLEAN abandonedState;
};
struct MutantOwnerInformation {
  HANDLE process;
  HANDLE thread;
};
enum MutantInformationClass { kMutantBasic = 0, kMutantOwner = 1 };
using NtQueryMutant = NTSTATUS(NTAPI*)(HANDLE, int, void*, ULONG, ULONG*);

NtQueryMutant ntQueryMutant() {
  static const auto function = reinterpret_cast<NtQueryMutant>(
      reinterpret_cast<void*>(::GetProcAddress(::GetModuleHandleW(L"ntdll.dll"), "NtQueryMutant")));
  return function;
}

// False: it can't be looked at.
bool queryState(HANDLE mutex, MutantBasicInformation& state) {
  const NtQueryMutant query = ntQueryMutant();
  return query != nullptr && query(mutex, kMutantBasic, &state, sizeof state, nullptr) >= 0;
}

// The number behind `key` in the JSON of a record; 0: none.
uint64_t numberIn(std::string_view json, std::string_view key) {
  uint64_t number = 0;
  const size_t at = json.find(key);
  if (at != std::string_view::npos) std::from_chars(json.data() + at + key.size(), json.data() + json.size(), number);
  return number;
}

// Whether the process that wrote a record still runs.
bool writerRuns(std::string_view json) {
  const uint64_t pid = numberIn(json, "\"pid\":");
  const uint64_t now = pid == 0 ? 0 : processStart(static_cast<long>(pid));
  return now == kUnknownStart || (now != 0 && now == numberIn(json, "\"processStart\":"));
}

class Win32Mutex final : public PlatformMutex, private OwnerThread::Client {
 public:
  Win32Mutex(const MutexLocation& location, Listener& listener)
      : location_(location), listener_(listener), threads_{OwnerThread(*this), OwnerThread(*this)} {}

  LockResult tryLock(Acquired& acquired, Failure& failure) override;
  bool startWait(Failure& failure) override;
  void cancelWait() override;
  bool waitHasEnded() const override { return waiting_->hasEnded(); }
  bool waitsInVain() const override { return false; }
  LockResult finishWait(Acquired& acquired, Failure& failure) override;
  bool writeRecord(std::string_view json) override;
  Failure recordFailure() const override { return recordFailure_; }
  void unlock(Release how) override;
  // A kernel object has no name that others could take away, and no cleaner.
  bool isLost() const override { return false; }
  void keepYoung(std::string_view) override {}
  // The last handle destroys the object: another program would then make it, with rights of its choice.
  void rest() override {}
  bool snapshot(bool mayProbe, MutexSnapshot& snapshot, Failure& failure) override;

 private:
  void waitEnded() override { listener_.onWaitEnded(); }
  OwnerThread& freeThread() { return owner_ == &threads_[0] ? threads_[1] : threads_[0]; }
  std::wstring objectName() const { return {location_.objectName.begin(), location_.objectName.end()}; }
  bool open(Failure& failure);
  void lookForForgottenDeath();
  LockResult settle(OwnerThread& thread, WaitOutcome outcome, DWORD error, Acquired& acquired, Failure& failure);

  const MutexLocation location_;
  Listener& listener_;
  Handle mutex_;
  RecordFile record_;
  Failure recordFailure_;
  bool looked_ = false;    // for a death that the kernel may have forgotten
  std::string forgotten_;  // the record of that death, all of it; empty: none
  // Two threads for the one mutex, the owner's and the one that waits behind it: the owner's thread would get it again
  // at once.
  OwnerThread* owner_ = nullptr;
  bool abandonedBefore_ = false;  // the kernel reported it to the present owner
  bool recordWritten_ = false;    // by the present owner
  OwnerThread* waiting_ = nullptr;
  OwnerThread threads_[2];  // last: they call back into all of the above
};

bool Win32Mutex::open(Failure& failure) {
  // A missing directory is a mistake in a path. Any other failure of the record is no reason not to lock.
  if (record_.isOpen() || record_.open(location_, recordFailure_)) {
    recordFailure_.kind = FailureKind::none;
  } else if (recordFailure_.error == ERROR_PATH_NOT_FOUND) {
    failure = recordFailure_;
    return false;
  }
  if (!mutex_) mutex_ = Handle(::CreateMutexExW(mutexSecurity(), objectName().c_str(), 0, kAccess));
  if (!mutex_) {
    failure = {FailureKind::system, static_cast<int>(::GetLastError()), "CreateMutexEx", location_.path};
    return false;
  }
  if (!looked_ && record_.isOpen()) lookForForgottenDeath();
  return true;
}

// See the head of this file. Looks at the record before the mutex, because of 5.
void Win32Mutex::lookForForgottenDeath() {
  looked_ = true;
  if (!record_.isMarkedHeld()) return;
  std::string bytes = record_.read();
  MutantBasicInformation state = {};
  const bool isFree = queryState(mutex_.get(), state) && state.currentCount > 0;
  if (isFree || !writerRuns(recordJson(bytes))) forgotten_ = std::move(bytes);
}

LockResult Win32Mutex::settle(OwnerThread& thread, WaitOutcome outcome, DWORD error, Acquired& acquired, Failure& failure) {
  if (outcome == WaitOutcome::busy) return LockResult::busy;
  if (outcome == WaitOutcome::failed) {
    failure = {FailureKind::system, static_cast<int>(error), "WaitForSingleObject", location_.path};
    return LockResult::failed;
  }
  owner_ = &thread;
  abandonedBefore_ = outcome == WaitOutcome::abandoned;
  acquired.abandoned = abandonedBefore_;
  if (record_.isOpen() && record_.isMarkedHeld()) {
    const std::string bytes = record_.read();
    acquired.abandoned = abandonedBefore_ || bytes == forgotten_;
    if (acquired.abandoned) acquired.previousOwner = recordJson(bytes);
  }
  return LockResult::acquired;
}

LockResult Win32Mutex::tryLock(Acquired& acquired, Failure& failure) {
  if (!open(failure)) return LockResult::failed;
  DWORD error = 0;
  OwnerThread& thread = threads_[0];
  const WaitOutcome outcome = thread.tryLock(mutex_.get(), error);
  return settle(thread, outcome, error, acquired, failure);
}

bool Win32Mutex::startWait(Failure& failure) {
  if (!open(failure)) return false;
  DWORD error = 0;
  OwnerThread& thread = freeThread();
  if (thread.startWait(mutex_.get(), error)) {
    waiting_ = &thread;
    return true;
  }
  failure = {FailureKind::system, static_cast<int>(error), "CreateThread", location_.path};
  return false;
}

// The wait may have been granted just as it was cancelled. Then the mutex is released. If it was granted as abandoned,
// the thread ends with it instead, so that the kernel reports the abandonment to the next owner.
void Win32Mutex::cancelWait() {
  if (waiting_->cancelWait() == WaitOutcome::acquired) waiting_->unlock();
  waiting_->end();
  waiting_ = nullptr;
}

LockResult Win32Mutex::finishWait(Acquired& acquired, Failure& failure) {
  OwnerThread& thread = *waiting_;
  waiting_ = nullptr;
  DWORD error = 0;
  const WaitOutcome outcome = thread.finishWait(error);
  return settle(thread, outcome, error, acquired, failure);
}

bool Win32Mutex::writeRecord(std::string_view json) {
  if (!record_.isOpen()) return false;
  record_.writeHeld(json);
  forgotten_.clear();
  return recordWritten_ = true;
}

void Win32Mutex::unlock(Release how) {
  // The record is marked before the unlock: the other way round would mark the next owner's record.
  if (how == Release::clean && record_.isOpen()) record_.writeFree();
  const bool tellNext = how == Release::abandoned || (how == Release::undelivered && abandonedBefore_);
  if (tellNext) owner_->end();
  else owner_->unlock();
  owner_ = nullptr;
  abandonedBefore_ = false;
  recordWritten_ = false;
}

bool Win32Mutex::snapshot(bool, MutexSnapshot& snapshot, Failure& failure) {
  const Handle existing(mutex_ ? nullptr : ::OpenMutexW(kAccess, FALSE, objectName().c_str()));
  const HANDLE mutex = mutex_ ? mutex_.get() : existing.get();
  if (mutex == nullptr) {
    const DWORD error = ::GetLastError();
    failure = {FailureKind::system, static_cast<int>(error), "OpenMutex", location_.path};
    return error == ERROR_FILE_NOT_FOUND;  // nobody uses it
  }
  MutantBasicInformation state = {};
  snapshot.held = queryState(mutex, state) && state.currentCount < 1;
  if (!snapshot.held) return true;
  if (owner_ != nullptr) {
    snapshot.kernelPid = static_cast<long>(::GetCurrentProcessId());
  } else {
    MutantOwnerInformation owner = {};
    if (ntQueryMutant()(mutex, kMutantOwner, &owner, sizeof owner, nullptr) >= 0) {
      snapshot.kernelPid = static_cast<long>(reinterpret_cast<uintptr_t>(owner.process));
    }
  }
  Failure ignored;
  if (!record_.openExisting(location_, ignored)) return true;
  if (owner_ != nullptr && !recordWritten_) return true;  // it is still the previous owner's
  // The record is torn while its owner is writing it, which takes less than a microsecond.
  for (int attempt = 0; attempt < kTornReads && snapshot.record.empty(); attempt++) {
    const std::string bytes = record_.read();
    snapshot.recordIsOwners = isMarkedHeld(bytes);
    snapshot.record = recordJson(bytes);
    if (!snapshot.recordIsOwners) break;
  }
  return true;
}

// Keeps the addon's code mapped when the last environment that loaded it ends: an owner thread may still be in it.
void pinLibrary() {
  HMODULE self;
  ::GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_PIN,
                       reinterpret_cast<LPCWSTR>(&pinLibrary), &self);
}

}  // namespace

std::unique_ptr<PlatformMutex> PlatformMutex::open(const MutexLocation& location, Listener& listener) {
  static const bool pinned = (pinLibrary(), true);
  (void)pinned;
  return std::make_unique<Win32Mutex>(location, listener);
}

unsigned long localScopeId() {
  DWORD session = 0;
  ::ProcessIdToSessionId(::GetCurrentProcessId(), &session);
  return session;
}

// Records on a network drive are refused one by one (record_file.cc); the lock itself never lies in a file.
const char* unsafeFileSystem(const std::string&) { return nullptr; }

}  // namespace os_mutex
