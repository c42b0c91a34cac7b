// One open file description of a lock file (POSIX). flock belongs to the description, so two of them
// exclude each other even inside one process.
#pragma once

#include <sys/stat.h>

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

  // Whether the name still leads to this file. Asked after locking: an owner of a file that was unlinked excludes nobody.
  bool isStillNamed(const MutexLocation& location) const;

  // Reads from the start of the file into `buffer`; what cannot be read reads as empty.
  std::string_view read(char* buffer, size_t size) const;
  void write(std::string_view bytes, long offset) const;

 private:
  bool adopt(int fd, const MutexLocation& location, Failure& failure);
  Descriptor file_;
  struct stat identity_ = {};
};

}  // namespace os_mutex
