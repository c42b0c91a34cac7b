// The owner record of a Win32 mutex: a file of fixed size, mapped into memory, so that a record costs no system call.
// The lock does not depend on it: without the file, others can't see who the owner is, and that is all.
#pragma once

#include <string>
#include <string_view>

#include "../platform_mutex.h"
#include "handle.h"
#include "lock_home.h"

namespace os_mutex {

class RecordFile {
 public:
  RecordFile() = default;
  ~RecordFile();
  RecordFile(const RecordFile&) = delete;
  RecordFile& operator=(const RecordFile&) = delete;

  // Opens or makes the file, refusing everything that is not a plain file of our own kind. Keeps it open: while it is
  // mapped nobody can shorten or remove it.
  bool open(const MutexLocation& location, Failure& failure);
  // The same, but makes nothing.
  bool openExisting(const MutexLocation& location, Failure& failure);
  bool isOpen() const { return view_ != nullptr; }

  bool isMarkedHeld() const;
  // The bytes as they are now, copied: others may write at any time.
  std::string read() const;
  void writeHeld(std::string_view json);
  // Also wipes what the owner wrote.
  void writeFree();

 private:
  bool map(IfMissing ifMissing, const MutexLocation& location, Failure& failure);
  bool check(const MutexLocation& location, Failure& failure) const;

  Handle file_;
  Handle mapping_;
  char* view_ = nullptr;
};

}  // namespace os_mutex
