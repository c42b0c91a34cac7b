// The bytes of an owner record, bounded in both directions. Layout of a lock file (text, so that `cat` shows it):
//
//   0   queue mark: 'w' once a waiter has queued (see courtesy.h), else '-'
//   1   state: 'H' held, 'F' free. A release rewrites it and blanks the JSON.
//   2   "1 " version, 4 hex digits of the JSON's length, ' ', 16 hex digits of its checksum, ' ', the JSON, '\n'
//
// Other programs may have written anything here; a reader believes nothing that the checksum does not cover.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace os_mutex {

constexpr size_t kRecordLimit = 4096;  // nothing beyond is ever read or written
constexpr long kQueueMarkOffset = 0;
constexpr long kStateOffset = 1;
constexpr char kQueued = 'w';
constexpr char kNotQueued = '-';
constexpr char kHeld = 'H';
constexpr char kFree = 'F';

constexpr size_t kChecksumOffset = 9;
constexpr size_t kHeaderSize = 26;  // up to the JSON

// The bytes to be written at kStateOffset. Made without an allocation, because every acquire needs them.
class EncodedRecord {
 public:
  // JSON that is too long is left out. The record then has only the state, without the owner's name.
  explicit EncodedRecord(std::string_view json, char state = kHeld);
  std::string_view bytes() const { return {bytes_, size_}; }

 private:
  void append(std::string_view text);
  void appendHex(uint64_t value, size_t digits);
  char bytes_[kRecordLimit];
  size_t size_ = 0;
};

// These read the bytes of a lock file from its start.
bool isMarkedQueued(std::string_view bytes);
// Whether the bytes begin as a record of ours, even if the rest is damaged.
bool isRecord(std::string_view bytes);
// The mark of an owner that has not released.
bool isMarkedHeld(std::string_view bytes);
// Empty where it is missing, torn or foreign.
std::string_view recordJson(std::string_view bytes);

}  // namespace os_mutex
