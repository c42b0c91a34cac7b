// The platform mutex of Linux and macOS: flock(2) on a file. The kernel frees the lock with the last descriptor of the open
// file description, so with its process; all descriptors are O_CLOEXEC, so an exec'd child keeps none.
//
// "Abandoned" is told by the record: an acquirer that finds the mark of an owner who did not take it back on releasing is
// told. The mark is written when the lock reaches its owner and replaced by the next owner's, so it is told once.
#include <dlfcn.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

#include "courtesy.h"
#include "flock_waiter.h"
#include "lock_file.h"
#include "../owner_record.h"
#include "../platform_mutex.h"
#include "os.h"
#include "../process_identity.h"

namespace os_mutex {
namespace {

constexpr int kVanishTries = 100;

class PosixMutex final : public PlatformMutex, private FlockWaiter::Client {
 public:
  PosixMutex(const MutexLocation& location, Listener& listener)
      : location_(location), listener_(listener), courtesy_(location), waiter_(*this) {}

  LockResult tryLock(Acquired& acquired, Failure& failure) override;
  bool startWait(Failure& failure) override;
  void cancelWait() override;
  bool waitHasEnded() const override { return waiter_.hasEnded(); }
  LockResult finishWait(Acquired& acquired, Failure& failure) override;
  Failure recordFailure() const override { return {}; }
  void writeRecord(std::string_view json) override;
  void unlock(Release how) override;
  bool snapshot(MutexSnapshot& snapshot, Failure& failure) override;

 private:
  void beforeFlock(const FlockWaiter& waiter) override { courtesy_.queueUp(*waiting_, waiter); }
  void flockEnded(int error) override;
  LockFile& freeFile() { return owned_ == &files_[0] ? files_[1] : files_[0]; }

  const MutexLocation location_;
  Listener& listener_;
  // Two descriptions of the one file: the owner's, and the one that waits behind it. They take turns.
  LockFile files_[2];
  LockFile* owned_ = nullptr;
  bool recordWritten_ = false;  // by the present owner
  LockFile* waiting_ = nullptr;  // the waiter's thread reads it between start and end of a wait
  // What the waiter's thread saw of it at the end of a wait, for whoever takes the outcome (see FlockWaiter::finish).
  bool waitedFileIsNamed_ = false;
  bool waitedFileIsMarked_ = false;
  Courtesy courtesy_;
  FlockWaiter waiter_;  // last: its destructor joins the thread, which uses all of the above
};

// `marked`: the file bears the mark of an owner. Most often there is nothing to read.
void readAbandoned(const LockFile& file, bool marked, Acquired& acquired) {
  acquired.abandoned = marked;
  if (!marked) return;
  char buffer[kRecordLimit];
  acquired.previousOwner = recordJson(file.read(buffer, sizeof buffer));
}

bool isOfOurPidSpace(std::string_view json) {
  const std::string ours = "\"pidSpace\":" + std::to_string(currentProcessIdentity().pidSpace) + ",";
  return json.find(ours) != std::string_view::npos;
}

LockResult PosixMutex::tryLock(Acquired& acquired, Failure& failure) {
  LockFile& file = files_[0];
  for (int attempt = 0; attempt < kVanishTries; attempt++) {
    if (!file.open(location_, failure)) return LockResult::failed;
    char buffer[kHeaderSize];
    // While it steps aside, a process that tries and tries must not take the lock each time only to give it back: the waiter
    // that is just waking up might find it taken again and again.
    if (courtesy_.isSteppingAside() && courtesy_.mustStepAside(file, file.read(buffer, sizeof buffer))) {
      return LockResult::busy;
    }
    if (::flock(file.fd(), LOCK_EX | LOCK_NB) != 0) {
      if (errno == EWOULDBLOCK) return LockResult::busy;
      if (errno == EINTR) continue;
      failure = {FailureKind::system, errno, "flock", location_.path};
      return LockResult::failed;
    }
    if (!file.isStillNamed(location_)) {
      // Opened before the file was removed: this lock excludes nobody who comes now.
      file.close();
      continue;
    }
    const std::string_view header = file.read(buffer, sizeof buffer);
    if (courtesy_.mustStepAside(file, header)) {
      ::flock(file.fd(), LOCK_UN);
      return LockResult::busy;
    }
    readAbandoned(file, isMarkedHeld(header), acquired);
    owned_ = &file;
    return LockResult::acquired;
  }
  failure = {FailureKind::system, EAGAIN, "open", location_.path};
  return LockResult::failed;
}

bool PosixMutex::startWait(Failure& failure) {
  LockFile& file = freeFile();
  if (!file.open(location_, failure)) return false;
  waiting_ = &file;
  const int error = waiter_.start(file.fd());
  if (error == 0) return true;
  waiting_ = nullptr;
  failure = {FailureKind::system, error, "pthread_create", location_.path};
  return false;
}

// The news first: an event loop takes longer to wake up than these looks take, and where there is a core for it does so meanwhile.
void PosixMutex::flockEnded(int error) {
  listener_.onWaitEnded();
  if (error != 0) return;
  waitedFileIsNamed_ = waiting_->isStillNamed(location_);
  char buffer[kHeaderSize];
  waitedFileIsMarked_ = isMarkedHeld(waiting_->read(buffer, sizeof buffer));
  courtesy_.leaveQueue();
}

void PosixMutex::cancelWait() {
  if (!waiter_.cancel()) waiter_.finish();
  ::flock(waiting_->fd(), LOCK_UN);
  courtesy_.leaveQueue();
  waiting_ = nullptr;
}

LockResult PosixMutex::finishWait(Acquired& acquired, Failure& failure) {
  LockFile& file = *waiting_;
  const int error = waiter_.finish();
  waiting_ = nullptr;
  if (error != 0) {
    courtesy_.leaveQueue();
    failure = {FailureKind::system, error, "flock", location_.path};
    return LockResult::failed;
  }
  if (!waitedFileIsNamed_) {
    file.close();
    return startWait(failure) ? LockResult::busy : LockResult::failed;
  }
  readAbandoned(file, waitedFileIsMarked_, acquired);
  owned_ = &file;
  return LockResult::acquired;
}

void PosixMutex::writeRecord(std::string_view json) {
  const EncodedRecord record(json);
  owned_->write(record.bytes(), kStateOffset);
  courtesy_.wrote(record.bytes());
  recordWritten_ = true;
}

void PosixMutex::unlock(Release how) {
  // Marked before it is unlocked: the other way round would mark the next owner's record. A crash in between reads as a
  // clean release, which it is: the owner was done.
  if (how == Release::clean) owned_->write({&kFree, 1}, kStateOffset);
  ::flock(owned_->fd(), LOCK_UN);
  owned_ = nullptr;
  recordWritten_ = false;
  courtesy_.released();
}

bool PosixMutex::snapshot(MutexSnapshot& snapshot, Failure& failure) {
  char buffer[kRecordLimit];
  if (owned_ != nullptr) {
    // Until the lock has reached its owner, the record is still the previous one's.
    snapshot = {true, recordWritten_, std::string(recordJson(owned_->read(buffer, sizeof buffer))), ::getpid()};
    return true;
  }
  // A description of its own: the others may be waited on by another thread.
  LockFile file;
  if (!file.openExisting(location_, failure)) return failure.kind == FailureKind::none;
  const std::string_view bytes = file.read(buffer, sizeof buffer);
  const bool markedHeld = isMarkedHeld(bytes);
  KernelWord word = askKernel(file.fd(), file.identity(), snapshot.kernelPid);
  const std::string_view json = recordJson(bytes);
  // Only taking the lock can tell where the kernel does not list it, or not to us: its owner may live in another pid
  // namespace. It is shared and gone in a microsecond, but a tryAcquire elsewhere in just that moment sees it as held. An
  // owner that counts pids as we do would have been listed: without a lock in sight, it has crashed or released by now.
  if (word == KernelWord::unknown || (word == KernelWord::free && markedHeld && !isOfOurPidSpace(json))) {
    const bool busy = ::flock(file.fd(), LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    word = busy ? KernelWord::held : KernelWord::free;
  }
  snapshot.held = word == KernelWord::held;
  snapshot.recordIsOwners = markedHeld;
  snapshot.record = json;
  return true;
}

// Keeps the addon's code mapped when the last environment that loaded it ends: a waiter's thread may still be in it.
void pinLibrary() {
  static const bool pinned = [] {
    Dl_info self;
    if (::dladdr(reinterpret_cast<const void*>(&pinLibrary), &self) == 0) return false;
    return ::dlopen(self.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE) != nullptr;
  }();
  (void)pinned;
}

}  // namespace

unsigned long localScopeId() { return ::geteuid(); }

std::unique_ptr<PlatformMutex> PlatformMutex::open(const MutexLocation& location, Listener& listener) {
  pinLibrary();
  return std::make_unique<PosixMutex>(location, listener);
}

}  // namespace os_mutex
