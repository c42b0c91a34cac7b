// Fuzz target of libFuzzer's, built by scripts/fuzz.mjs: whatever a lock file holds, reading it stays within its bytes; a record that
// was encoded is read back, and one that was changed or cut off is disowned.
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>

#include "owner_record.h"

namespace {

using namespace os_mutex;

void require(bool holds) {
  if (!holds) std::abort();
}

// From memory of just that size, so that AddressSanitizer sees a read beyond it.
std::string read(std::string_view file) {
  const std::unique_ptr<char[]> own(new char[file.size()]);
  file.copy(own.get(), file.size());
  const std::string_view bytes = file.empty() ? std::string_view{} : std::string_view{own.get(), file.size()};
  require(isMarkedQueued(bytes) == (file.substr(0, 1) == "w"));
  require(isMarkedHeld(bytes) == (file.size() > 3 && file.substr(1, 3) == "H1 "));
  const std::string_view json = recordJson(bytes);
  require(json.empty() || (json.data() == own.get() + kHeaderSize && json.size() <= file.size() - kHeaderSize));
  return std::string(json);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string input(reinterpret_cast<const char*>(data), size);
  read(input);

  std::string file = kNotQueued + std::string(EncodedRecord(input).bytes());
  const bool fits = kHeaderSize + size + 1 <= kRecordLimit;
  require(file.size() <= kRecordLimit && isMarkedHeld(file));
  require(read(file) == (fits ? input : ""));

  if (size < 3) return 0;
  const size_t at = (data[0] | data[1] << 8) % file.size();
  file[at] = static_cast<char>(file[at] ^ data[2]);
  const size_t last = file.size() - 1;  // the line's end, which no reader needs
  const bool isInJson = at >= kHeaderSize && at < last;
  const std::string changed = read(file);
  require(!isInJson || data[2] == 0 || changed.empty());
  file.resize(at);
  require(at == last || read(file).empty());
  return 0;
}
