// The seam between platforms: what the rest of the addon may ask of the operating system's named mutex.
// Behind it stand posix/ (Linux, macOS) and win32/. Nothing on this side of the seam names an OS call.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace os_mutex {

// Where a mutex lives. The text of a name is mapped to it before it gets here.
struct MutexLocation {
  std::string path;           // of the lock file (POSIX), of the owner record's file (Windows)
  std::string ownDirectory;   // the directory that it lies in, where that is ours to make; else empty. POSIX: the user's
                              // private one, Local scope only. Windows: the default lock home, for all users
  std::u16string objectName;  // what the kernel calls the mutex (Windows)
};

enum class FailureKind {
  none,
  system,            // `error` says it all
  noDescriptors,     // the process or the system can open no more files
  notRegularFile,    // a FIFO, directory, device or symbolic link stands where the lock file belongs
  hardLinked,        // the file has a second name and holds something else than a record: somebody's data
  foreignDirectory,  // our own directory belongs to somebody else, is a link, or (POSIX) others may write into it
};

struct Failure {
  FailureKind kind = FailureKind::none;
  int error = 0;          // errno or GetLastError
  const char* call = "";  // the system call that failed
  std::string path;
};

enum class LockResult { acquired, busy, failed };

// What the kernel and the record said at the moment of acquisition.
struct Acquired {
  bool abandoned = false;
  std::string previousOwner;  // JSON, only when abandoned and readable
  bool unrecorded = false;    // the owner's record could not be written: see PlatformMutex::recordFailure
};

enum class Release {
  clean,      // the owner is done: the next one is not told anything
  abandoned,  // the owner ended without releasing: the next one is told
  undelivered // the lock never reached an owner: leave the record as it was found
};

struct MutexSnapshot {
  bool held = false;
  bool recordIsOwners = false;  // `record` was written by the present owner
  std::string record;           // JSON
  long kernelPid = 0;           // the owner by the kernel's word; 0 where it does not tell
};

// One name as this process sees it: at most one owner and one wait at a time, which may overlap (the
// owner is in this process and the next one queues behind it). Not synchronised: the caller holds one lock around every
// call. Only the listener is called from elsewhere, on a thread of the platform's.
class PlatformMutex {
 public:
  class Listener {
   public:
    virtual ~Listener() = default;
    // The wait has ended by itself, or was called off in just that moment. Called with nothing locked. It must not wait
    // for the lock around the calls below: whoever has that may be waiting for this very thread.
    virtual void onWaitEnded() = 0;
  };

  static std::unique_ptr<PlatformMutex> open(const MutexLocation& location, Listener& listener);
  virtual ~PlatformMutex() = default;

  // Needs: no owner and no wait in this process.
  virtual LockResult tryLock(Acquired& acquired, Failure& failure) = 0;

  // Queues in the kernel. Needs: no wait in progress. False: `failure` says why it could not begin.
  virtual bool startWait(Failure& failure) = 0;
  // Calls the wait off. On return the kernel holds no request of it and no lock by it.
  virtual void cancelWait() = 0;
  virtual bool waitHasEnded() const = 0;
  // Whether the wait is for something that nobody else would wait for now.
  virtual bool waitsInVain() const = 0;
  // Takes the outcome of a wait that has ended. `busy`: it had to begin anew, onWaitEnded comes again.
  virtual LockResult finishWait(Acquired& acquired, Failure& failure) = 0;

  // Publishes `json` as the owner's record. False: it can't be kept, and recordFailure() says why. Locking does not
  // depend on it.
  virtual bool writeRecord(std::string_view json) = 0;
  virtual Failure recordFailure() const = 0;
  virtual void unlock(Release how) = 0;

  // Whether somebody took the lock away from its owner: true only where that is certain. Needs: an owner.
  virtual bool isLost() const = 0;
  // Keeps the system's cleaners away from what the owner holds, and publishes `json` again if others have damaged the
  // record. Called from time to time. Needs: an owner.
  virtual void keepYoung(std::string_view json) = 0;
  // Gives back what only a mutex in use needs. Needs: no owner and no wait in this process.
  virtual void rest() = 0;

  // Looks without waiting or taking. `mayProbe`: where the kernel does not tell, it may be taken for a moment. Else it
  // counts as held there.
  virtual bool snapshot(bool mayProbe, MutexSnapshot& snapshot, Failure& failure) = 0;
};

// The name of the file system under `directory` when locks are not reliable on it (network file systems), else nullptr.
const char* unsafeFileSystem(const std::string& directory);

// Which processes share Local names: those of the effective user (POSIX) or of the session (Windows) with this number.
unsigned long localScopeId();

}  // namespace os_mutex
