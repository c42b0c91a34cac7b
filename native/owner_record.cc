#include "owner_record.h"

#include <cstdint>
#include <cstring>

namespace os_mutex {
namespace {

constexpr std::string_view kVersion = "1 ";
constexpr size_t kLengthOffset = kStateOffset + 1 + kVersion.size();
constexpr size_t kLengthDigits = 4;
constexpr size_t kChecksumDigits = 16;
static_assert(kChecksumOffset == kLengthOffset + kLengthDigits + 1 && kHeaderSize == kChecksumOffset + kChecksumDigits + 1,
              "the layout in owner_record.h");

// Distinguishes a whole record from a torn or foreign one. Not a defence: who may write the file may also forge it.
uint64_t checksum(std::string_view text) {
  uint64_t sum = 0x9e3779b97f4a7c15u ^ text.size();
  while (!text.empty()) {
    uint64_t word = 0;
    const size_t count = text.size() < sizeof word ? text.size() : sizeof word;
    std::memcpy(&word, text.data(), count);
    text.remove_prefix(count);
    sum = (sum ^ word) * 0xff51afd7ed558ccdu;
    sum ^= sum >> 32;
  }
  return sum;
}

// False on anything but lower-case digits.
bool parseHex(std::string_view text, uint64_t& value) {
  value = 0;
  for (const char c : text) {
    if (c >= '0' && c <= '9') value = value * 16 + static_cast<uint64_t>(c - '0');
    else if (c >= 'a' && c <= 'f') value = value * 16 + static_cast<uint64_t>(c - 'a' + 10);
    else return false;
  }
  return true;
}

}  // namespace

EncodedRecord::EncodedRecord(std::string_view json, char state) {
  if (kHeaderSize + json.size() + 1 > kRecordLimit) json = "";
  append({&state, 1});
  append(kVersion);
  appendHex(json.size(), kLengthDigits);
  append(" ");
  appendHex(checksum(json), kChecksumDigits);
  append(" ");
  append(json);
  append("\n");
}

void EncodedRecord::append(std::string_view text) {
  std::memcpy(bytes_ + size_, text.data(), text.size());
  size_ += text.size();
}

void EncodedRecord::appendHex(uint64_t value, size_t digits) {
  for (size_t digit = digits; digit-- > 0;) bytes_[size_++] = "0123456789abcdef"[(value >> (4 * digit)) & 15];
}

bool isMarkedQueued(std::string_view bytes) { return !bytes.empty() && bytes[kQueueMarkOffset] == kQueued; }

bool isRecord(std::string_view bytes) {
  if (bytes.size() < kChecksumOffset) return false;
  uint64_t length = 0;
  const char mark = bytes[kQueueMarkOffset];
  const char state = bytes[kStateOffset];
  return (mark == kQueued || mark == kNotQueued || mark == '\0') && (state == kHeld || state == kFree) &&
         bytes.substr(kStateOffset + 1, kVersion.size()) == kVersion && parseHex(bytes.substr(kLengthOffset, kLengthDigits), length);
}

bool isMarkedHeld(std::string_view bytes) {
  return bytes.size() >= kLengthOffset && bytes[kStateOffset] == kHeld &&
         bytes.substr(kStateOffset + 1, kVersion.size()) == kVersion;
}

std::string_view recordJson(std::string_view bytes) {
  uint64_t length = 0;
  uint64_t sum = 0;
  if (bytes.size() < kHeaderSize || bytes.substr(kStateOffset + 1, kVersion.size()) != kVersion ||
      !parseHex(bytes.substr(kLengthOffset, kLengthDigits), length) ||
      !parseHex(bytes.substr(kChecksumOffset, kChecksumDigits), sum) || length > bytes.size() - kHeaderSize) {
    return {};
  }
  const std::string_view json = bytes.substr(kHeaderSize, length);
  return checksum(json) == sum ? json : std::string_view{};
}

}  // namespace os_mutex
