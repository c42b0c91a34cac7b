#include "../preallocate.h"
#include "handle.h"

namespace os_mutex {

constexpr DWORD kDiskQuotaExceeded = 1295;  // ERROR_DISK_QUOTA_EXCEEDED, which not every winerror.h has

Preallocation preallocate(const std::string& path, uint64_t bytes) {
  constexpr DWORD kShare = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
  const Handle file(::CreateFileW(widePath(path).c_str(), FILE_WRITE_DATA | FILE_READ_ATTRIBUTES, kShare, nullptr, OPEN_EXISTING,
                                  FILE_FLAG_OPEN_REPARSE_POINT, nullptr));
  FILE_STANDARD_INFO now = {};
  if (!file || !::GetFileInformationByHandleEx(file.get(), FileStandardInfo, &now, sizeof now)) return Preallocation::unsupported;
  // An allocation of fewer bytes than the file has would truncate it.
  if (static_cast<uint64_t>(now.AllocationSize.QuadPart) >= bytes || static_cast<uint64_t>(now.EndOfFile.QuadPart) >= bytes) {
    return Preallocation::done;
  }
  FILE_ALLOCATION_INFO wanted = {};
  wanted.AllocationSize.QuadPart = static_cast<LONGLONG>(bytes);
  if (::SetFileInformationByHandle(file.get(), FileAllocationInfo, &wanted, sizeof wanted)) return Preallocation::done;
  switch (::GetLastError()) {
    case ERROR_DISK_FULL:
    case ERROR_HANDLE_DISK_FULL:
    case kDiskQuotaExceeded: return Preallocation::noRoom;
    case ERROR_FILE_TOO_LARGE: return Preallocation::tooLarge;
    default: return Preallocation::unsupported;
  }
}

}  // namespace os_mutex
