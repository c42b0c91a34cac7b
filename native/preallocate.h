// Takes room on the disk for a file before its bytes come, so that the disk cannot fill up half-way.
#pragma once

#include <cstdint>
#include <string>

namespace os_mutex {

// `unsupported`: the file system can't, or failed for a reason that says nothing about the bytes to come.
enum class Preallocation { done, noRoom, tooLarge, unsupported };

// Takes what `bytes` bytes from the file's beginning need beyond what it has. Its size and content stay as they are.
// May block on the disk. The file must exist and be open for as long as the room is wanted: Windows and macOS give back
// at the last close what lies behind the end. Linux keeps it until the file is truncated.
Preallocation preallocate(const std::string& path, uint64_t bytes);

}  // namespace os_mutex
