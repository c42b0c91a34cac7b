// A kernel lock on one file that is there: whoever has it may write the file and what belongs to it. The kernel frees it
// with its process, in whatever container or user that ran.
#pragma once

#include <memory>
#include <string>

#include "platform_mutex.h"

namespace os_mutex {

enum class HoldResult {
  held,
  taken,   // somebody else has it
  gone,    // the file is not there, or its name leads to another file by now
  failed,  // `failure` says why
};

// Used by one thread. Its destructor gives the lock back.
class FileHold {
 public:
  // Never waits.
  static HoldResult open(const std::string& path, std::unique_ptr<FileHold>& hold, Failure& failure);
  virtual ~FileHold() = default;
  // Whether `path` still leads to the locked file.
  virtual bool isNamed(const std::string& path) const = 0;
};

// Whether all users of a file in this directory share one kernel, so that its locks bind them all: the file system is
// of a kind that only one machine mounts. False also where that is not known.
bool isLocalFileSystem(const std::string& directory);

}  // namespace os_mutex
