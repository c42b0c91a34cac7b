// Reserves disk space for a file before its bytes are written, so that the disk cannot fill up half-way.
#pragma once

#include <cstdint>
#include <string>

namespace os_mutex {

// `unsupported`: the file system can't, or failed for a reason that says nothing about the bytes to come.
enum class Preallocation { done, noRoom, tooLarge, unsupported };

// Reserves what the file's first `bytes` bytes need beyond what it has. Its size and content stay as they are. May
// block on the disk. The file must exist, and must stay open for as long as the space is needed: Windows and macOS free
// what lies beyond the end at the last close. Linux keeps it until the file is truncated.
Preallocation preallocate(const std::string& path, uint64_t bytes);

}  // namespace os_mutex
