// The owner record that this process last wrote into a lock file.
#pragma once

#include <string_view>

#include "../owner_record.h"
#include "lock_file.h"

namespace os_mutex {

class OwnRecord {
 public:
  // The file holds the record of a dead owner, `found`. The release of this one blanks all of it.
  void replaces(std::string_view found) { covered_ = found.size(); }
  // Publishes `json`. 0, or the errno of a record that could not be written (disk full, quota): then its owner's death
  // may not be reported.
  int write(const LockFile& file, std::string_view json);
  // Whether `bytes`, a lock file's first ones, are still of this record, released or not.
  bool isIn(std::string_view bytes) const;
  // Marks it as released, and blanks its text: why a lock was held is nobody's business after that.
  void release(const LockFile& file);

 private:
  static constexpr size_t kCompared = kHeaderSize - kStateOffset - 1;  // from behind the state byte
  char header_[kCompared] = {};
  size_t covered_ = 0;  // how far this record and what it replaced reach into the file
};

}  // namespace os_mutex
