#include "own_record.h"

#include <algorithm>
#include <cstring>

namespace os_mutex {

int OwnRecord::write(const LockFile& file, std::string_view json) {
  const EncodedRecord record(json);
  const std::string_view bytes = record.bytes();
  std::memcpy(header_, bytes.data() + 1, kCompared);
  covered_ = std::max(covered_, kStateOffset + bytes.size());
  const int error = file.write(bytes, kStateOffset);
  // The state byte needs no new block in a file that has one. Then a crash is still reported, without the owner's name.
  if (error != 0) file.write(bytes.substr(0, 1), kStateOffset);
  return error;
}

bool OwnRecord::isIn(std::string_view bytes) const {
  return bytes.size() >= kHeaderSize && std::memcmp(bytes.data() + kStateOffset + 1, header_, kCompared) == 0;
}

void OwnRecord::release(const LockFile& file) {
  char blank[kRecordLimit];
  const size_t size = std::max(covered_, kHeaderSize + 1);
  blank[kStateOffset] = kFree;
  std::memcpy(blank + kStateOffset + 1, header_, kCompared);
  std::memset(blank + kHeaderSize, ' ', size - kHeaderSize);
  blank[size - 1] = '\n';
  file.write({blank + kStateOffset, size - kStateOffset}, kStateOffset);
  covered_ = 0;
}

}  // namespace os_mutex
