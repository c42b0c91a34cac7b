// One open file description of a lock file (POSIX). flock belongs to the description, so two of them
// exclude each other even inside one process.
#pragma once

#include <sys/stat.h>

#include <memory>
#include <string>
#include <string_view>

#include "../platform_mutex.h"

namespace os_mutex {

// Owns a file descriptor.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(other.release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept;
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() { reset(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  void reset();

 private:
  int release();
  int fd_ = -1;
};

// How a process sees the file system: its mount namespace and root directory.
struct View {
  bool isKnown = false;
  ino_t mounts = 0;
  dev_t rootDevice = 0;
  ino_t root = 0;
};

class LockFile {
 public:
  // Opens or creates the file, refusing everything that is not a plain lock file. Keeps it open until close().
  bool open(const MutexLocation& location, Failure& failure);
  // Opens it only if it exists. False without a failure: there is none.
  bool openExisting(const MutexLocation& location, Failure& failure);
  void close();
  bool isOpen() const { return static_cast<bool>(file_); }
  int fd() const { return file_.get(); }
  const struct stat& identity() const { return identity_; }

  // Whether the name still leads to this file. Asked after locking: an owner of a file that was unlinked excludes
  // nobody.
  bool isStillNamed(const MutexLocation& location) const;
  // Whether the file has certainly lost its name: no name is left, or the name leads elsewhere in the same view of the
  // file system in which the file was opened. False if that is not known, as after a chroot.
  bool hasLostName(const MutexLocation& location) const;

  // Reads from the start of the file into `buffer`; what cannot be read reads as empty.
  std::string_view read(char* buffer, size_t size) const;
  // 0 or errno.
  int write(std::string_view bytes, long offset) const;

  // Makes the file young for the system's cleaners of temporary files, which go by its time stamps.
  void touch() const;
  // Makes those cleaners skip the file at any age, if the system has a way and the file is this user's. `on` false ends
  // that.
  void shield(bool on);

 private:
  bool adopt(int fd, const MutexLocation& location, Failure& failure);
  Descriptor file_;
  std::shared_ptr<Descriptor> folder_;  // the user's own, locked: see holdFolder
  struct stat identity_ = {};
  View view_ = {};
  bool shielded_ = false;
};

}  // namespace os_mutex
