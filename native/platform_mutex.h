// The seam between platforms: what the rest of the addon may ask of the operating system's named mutex.
// Behind it stand posix/ (Linux, macOS) and win32/. Nothing on this side of the seam names an OS call.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace os_mutex {

// Where a mutex lives. TypeScript has mapped the name to it.
struct MutexLocation {
  std::string path;           // of the lock file (POSIX), of the owner record's file (Windows)
  std::string ownDirectory;   // the directory of `path`, if this package creates it; else empty. POSIX: the user's
                              // private one, Local scope only. Windows: the default lock home, for all users
  std::u16string objectName;  // the mutex's name in the kernel (Windows)
  // Of a lock file in a folder that has its own permissions (POSIX): the file's mode. Who may not write such a file locks
  // it all the same, and keeps no record. 0: any other lock file.
  unsigned mode = 0;
};

enum class FailureKind {
  none,
  system,            // `error` says it all
  noDescriptors,     // the process or the system can open no more files
  notRegularFile,    // a FIFO, directory, device or symbolic link stands where the lock file belongs
  hardLinked,        // the file has a second name and holds something other than a record: somebody's data
  foreignDirectory,  // our own directory belongs to somebody else, is a link, or (POSIX) others may write into it
  taken,             // somebody else has the lock of this file
  gone,              // the file is not there, or its name leads to another one by now
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
  clean,      // the owner is done: nothing is reported to the next one
  abandoned,  // the owner ended without releasing: that is reported to the next one
  undelivered // the lock never reached an owner: leave the record as it was found
};

struct MutexSnapshot {
  bool held = false;
  bool recordIsOwners = false;  // `record` was written by the present owner
  std::string record;           // JSON
  long kernelPid = 0;           // the owner as the kernel reports it; 0 if it reports none
};

// One name as this process sees it: at most one owner and one wait at a time, which may overlap (the owner is in this
// process and the next one queues behind it). Not synchronised: the caller holds one lock around every call. Only the
// listener is called without it, on one of the platform's threads.
class PlatformMutex {
 public:
  class Listener {
   public:
    virtual ~Listener() = default;
    // The wait has ended by itself, perhaps just as it was cancelled. Called with nothing locked. It must not wait for
    // the lock around the calls below: the thread that holds it may be waiting for this very thread.
    virtual void onWaitEnded() = 0;
  };

  static std::unique_ptr<PlatformMutex> open(const MutexLocation& location, Listener& listener);
  virtual ~PlatformMutex() = default;

  // Needs: no owner and no wait in this process.
  virtual LockResult tryLock(Acquired& acquired, Failure& failure) = 0;

  // Queues in the kernel. Needs: no wait in progress. False: `failure` says why it could not begin.
  virtual bool startWait(Failure& failure) = 0;
  // Cancels the wait. On return the kernel has neither a request nor a lock of it.
  virtual void cancelWait() = 0;
  virtual bool waitHasEnded() const = 0;
  // Whether the wait is useless, because nobody who comes now would wait for the same thing.
  virtual bool waitsInVain() const = 0;
  // Takes the outcome of a wait that has ended. `busy`: the wait had to start again, and onWaitEnded will come again.
  virtual LockResult finishWait(Acquired& acquired, Failure& failure) = 0;

  // Publishes `json` as the owner's record. False: it could not be written, and recordFailure() says why. Locking does
  // not depend on it.
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

  // Looks without waiting or acquiring. `mayProbe`: if the kernel does not report whether the mutex is held, it may be
  // locked for a moment to find out. If false, it counts as held then.
  virtual bool snapshot(bool mayProbe, MutexSnapshot& snapshot, Failure& failure) = 0;
};

// The name of the file system under `directory` when locks are not reliable on it (network file systems), else nullptr.
const char* unsafeFileSystem(const std::string& directory);

// Which processes share Local names: those of the effective user (POSIX) or of the session (Windows) with this number.
unsigned long localScopeId();

}  // namespace os_mutex
