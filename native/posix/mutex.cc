// The platform mutex of Linux and macOS: flock(2) on a file. The kernel frees the lock with the last descriptor of the
// open file description, so with its process; all descriptors are O_CLOEXEC, so an exec'd child keeps none.
//
// "Abandoned" comes from the record: an acquirer finds the mark of an owner that did not clear it by a release. The
// mark is written when the lock reaches its owner, and the next owner's mark replaces it, so exactly one owner learns
// of it.
#include <dlfcn.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <optional>

#include "../owner_record.h"
#include "../platform_mutex.h"
#include "courtesy.h"
#include "flock_waiter.h"
#include "lock_file.h"
#include "os.h"
#include "own_record.h"

namespace os_mutex {
namespace {

constexpr int kVanishTries = 100;

class PosixMutex final : public PlatformMutex, private FlockWaiter::Client {
 public:
  PosixMutex(const MutexLocation& location, Listener& listener)
      : location_(location), listener_(listener), courtesy_(location, ownRecord_), waiter_(*this) {}

  LockResult tryLock(Acquired& acquired, Failure& failure) override;
  bool startWait(Failure& failure) override;
  void cancelWait() override;
  bool waitHasEnded() const override { return waiter_.hasEnded(); }
  bool waitsInVain() const override { return waiting_->file.hasLostName(location_); }
  LockResult finishWait(Acquired& acquired, Failure& failure) override;
  bool writeRecord(std::string_view json) override;
  Failure recordFailure() const override { return {FailureKind::system, recordError_, "write", location_.path}; }
  void unlock(Release how) override;
  bool isLost() const override { return owned_->hasLostName(location_); }
  void keepYoung(std::string_view json) override;
  void rest() override;
  bool snapshot(bool mayProbe, MutexSnapshot& snapshot, Failure& failure) override;

 private:
  // One wait, from its start until its outcome is taken. What the waiter's thread writes is read after
  // FlockWaiter::finish or cancel.
  struct Wait {
    Wait(LockFile& waited, Courtesy& courtesy) : file(waited), place(courtesy) {}
    LockFile& file;
    Courtesy::Place place;
    bool fileIsNamed = false;
    bool fileIsMarked = false;
  };

  void beforeFlock(const FlockWaiter& waiter) override { waiting_->place.enter(waiting_->file, waiter); }
  void flockEnded(int error) override;
  LockFile& freeFile() { return owned_ == &files_[0] ? files_[1] : files_[0]; }
  void acquire(LockFile& file, bool marked, Acquired& acquired);

  const MutexLocation location_;
  Listener& listener_;
  // Two open file descriptions of the one file: the owner's, and the one that waits behind it. They take turns.
  LockFile files_[2];
  LockFile* owned_ = nullptr;
  bool recordWritten_ = false;  // by the present owner
  OwnRecord ownRecord_;
  int recordError_ = 0;
  Courtesy courtesy_;
  std::optional<Wait> waiting_;
  FlockWaiter waiter_;  // last: its destructor joins the thread, which uses all of the above
};

// `marked`: the file bears the mark of an owner. Usually it does not, and there is nothing to read.
void PosixMutex::acquire(LockFile& file, bool marked, Acquired& acquired) {
  owned_ = &file;
  acquired.abandoned = marked;
  if (!marked) return;
  char buffer[kRecordLimit];
  const std::string_view bytes = file.read(buffer, sizeof buffer);
  ownRecord_.replaces(bytes);
  acquired.previousOwner = recordJson(bytes);
}

LockResult PosixMutex::tryLock(Acquired& acquired, Failure& failure) {
  LockFile& file = files_[0];
  for (int attempt = 0; attempt < kVanishTries; attempt++) {
    if (!file.open(location_, failure)) return LockResult::failed;
    char buffer[kHeaderSize];
    std::string_view header;
    int error = 0;
    switch (courtesy_.take(file, header, buffer, error)) {
      case Courtesy::Taken::yes: break;
      case Courtesy::Taken::no:
        // If the owner's file has lost its name, the owner has lost the mutex: others take the new file.
        if (!file.hasLostName(location_)) return LockResult::busy;
        file.close();
        continue;
      case Courtesy::Taken::error: failure = {FailureKind::system, error, "flock", location_.path}; return LockResult::failed;
    }
    if (file.isStillNamed(location_)) {
      acquire(file, isMarkedHeld(header), acquired);
      return LockResult::acquired;
    }
    // The file was removed after it was opened: this lock excludes nobody who comes now.
    file.close();
  }
  failure = {FailureKind::system, EAGAIN, "open", location_.path};
  return LockResult::failed;
}

bool PosixMutex::startWait(Failure& failure) {
  LockFile& file = freeFile();
  if (file.isOpen() && !file.isStillNamed(location_)) file.close();
  if (!file.open(location_, failure)) return false;
  waiting_.emplace(file, courtesy_);
  const int error = waiter_.start(file.fd());
  if (error == 0) return true;
  waiting_.reset();
  failure = {failureKindOf(error), error, waiter_.failedCall(), location_.path};
  return false;
}

// Notifies first: an event loop takes longer to wake up than these looks take, and wakes up meanwhile if there is a
// core for it.
void PosixMutex::flockEnded(int error) {
  listener_.onWaitEnded();
  if (error != 0) return;
  Wait& wait = *waiting_;
  wait.fileIsNamed = wait.file.isStillNamed(location_);
  char buffer[kHeaderSize];
  wait.fileIsMarked = isMarkedHeld(wait.file.read(buffer, sizeof buffer));
  wait.place.leave();
}

void PosixMutex::cancelWait() {
  if (!waiter_.cancel()) waiter_.finish();
  ::flock(waiting_->file.fd(), LOCK_UN);
  waiting_.reset();
}

LockResult PosixMutex::finishWait(Acquired& acquired, Failure& failure) {
  const int error = waiter_.finish();
  LockFile& file = waiting_->file;
  const bool named = waiting_->fileIsNamed;
  const bool marked = waiting_->fileIsMarked;
  waiting_.reset();
  if (error != 0) {
    failure = {FailureKind::system, error, "flock", location_.path};
    return LockResult::failed;
  }
  if (!named) {
    file.close();
    return startWait(failure) ? LockResult::busy : LockResult::failed;
  }
  acquire(file, marked, acquired);
  return LockResult::acquired;
}

bool PosixMutex::writeRecord(std::string_view json) {
  recordError_ = ownRecord_.write(*owned_, json);
  recordWritten_ = true;
  return recordError_ == 0;
}

void PosixMutex::unlock(Release how) {
  // The record is marked before the unlock: the other way round would mark the next owner's record. A crash in between
  // reads as a clean release, which it is: the owner was done.
  if (how == Release::clean) ownRecord_.release(*owned_);
  owned_->shield(false);
  ::flock(owned_->fd(), LOCK_UN);
  owned_ = nullptr;
  recordWritten_ = false;
  courtesy_.released();
}

void PosixMutex::keepYoung(std::string_view json) {
  owned_->touch();
  owned_->shield(true);
  courtesy_.keepYoung();
  char buffer[kRecordLimit];
  const std::string_view bytes = owned_->read(buffer, sizeof buffer);
  if (ownRecord_.isIn(bytes) && isMarkedHeld(bytes) && !recordJson(bytes).empty()) return;
  // Damaged by another program (`exec 9>file` empties it). The queue mark is set in any case: the next owner finds out
  // whether somebody waits.
  owned_->write({&kQueued, 1}, kQueueMarkOffset);
  writeRecord(json);
}

void PosixMutex::rest() {
  for (LockFile& file : files_) file.close();
  courtesy_.rest();
}

bool PosixMutex::snapshot(bool mayProbe, MutexSnapshot& snapshot, Failure& failure) {
  char buffer[kRecordLimit];
  if (owned_ != nullptr) {
    // Until the lock has reached its owner, the record is still the previous one's.
    snapshot = {true, recordWritten_, std::string(recordJson(owned_->read(buffer, sizeof buffer))), ::getpid()};
    return true;
  }
  // Uses its own open file description: another thread may be waiting on the others.
  LockFile file;
  if (!file.openExisting(location_, failure)) return failure.kind == FailureKind::none;
  const std::string_view bytes = file.read(buffer, sizeof buffer);
  KernelWord word = askKernel(file.fd(), file.identity(), snapshot.kernelPid);
  if (word == KernelWord::unknown && !mayProbe) word = KernelWord::held;
  if (word == KernelWord::unknown) {
    // If the kernel does not list the lock, or does not show the list to us, only taking it can tell. It is taken
    // shared and for a microsecond only: because it is shared, others can see that nobody owns the mutex.
    int error = 0;
    do {
      error = ::flock(file.fd(), LOCK_SH | LOCK_NB) == 0 ? 0 : errno;
    } while (error == EINTR);
    if (error == 0) ::flock(file.fd(), LOCK_UN);
    if (error != 0 && error != EWOULDBLOCK) {
      failure = {FailureKind::system, error, "flock", location_.path};
      return false;
    }
    word = error == 0 ? KernelWord::free : KernelWord::held;
  }
  snapshot.held = word == KernelWord::held;
  snapshot.recordIsOwners = isMarkedHeld(bytes);
  snapshot.record = recordJson(bytes);
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
