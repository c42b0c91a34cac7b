// Locks of byte ranges are mandatory on Windows: they keep others from reading and writing there. So one byte is locked
// that no file will ever have.
#include "../file_hold.h"

#include <memory>
#include <utility>

#include "handle.h"

namespace os_mutex {
namespace {

constexpr DWORD kLockOffsetHigh = 0x40000000;  // the byte at 2^62

// `attributesOnly`: opens the file as it is for a look at its identity.
Handle openFile(const std::string& path, bool attributesOnly) {
  constexpr DWORD kShare = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
  const DWORD access = attributesOnly ? FILE_READ_ATTRIBUTES : FILE_READ_DATA | FILE_READ_ATTRIBUTES;
  return Handle(::CreateFileW(widePath(path).c_str(), access, kShare, nullptr, OPEN_EXISTING,
                              FILE_FLAG_OPEN_REPARSE_POINT | FILE_FLAG_BACKUP_SEMANTICS, nullptr));
}

bool isMissing(DWORD error) { return error == ERROR_FILE_NOT_FOUND || error == ERROR_PATH_NOT_FOUND; }

bool isSameFile(const BY_HANDLE_FILE_INFORMATION& a, const BY_HANDLE_FILE_INFORMATION& b) {
  return a.dwVolumeSerialNumber == b.dwVolumeSerialNumber && a.nFileIndexHigh == b.nFileIndexHigh && a.nFileIndexLow == b.nFileIndexLow;
}

class Win32FileHold final : public FileHold {
 public:
  Win32FileHold(Handle file, const BY_HANDLE_FILE_INFORMATION& identity) : file_(std::move(file)), identity_(identity) {}

  bool isNamed(const std::string& path) const override {
    const Handle now = openFile(path, true);
    BY_HANDLE_FILE_INFORMATION found;
    return now && ::GetFileInformationByHandle(now.get(), &found) && isSameFile(found, identity_);
  }

 private:
  const Handle file_;
  const BY_HANDLE_FILE_INFORMATION identity_;
};

}  // namespace

HoldResult FileHold::open(const std::string& path, std::unique_ptr<FileHold>& hold, Failure& failure) {
  Handle file = openFile(path, false);
  if (!file) {
    const DWORD error = ::GetLastError();
    if (isMissing(error)) return HoldResult::gone;
    failure = {FailureKind::system, static_cast<int>(error), "CreateFile", path};
    return HoldResult::failed;
  }
  OVERLAPPED range = {};
  range.OffsetHigh = kLockOffsetHigh;
  if (!::LockFileEx(file.get(), LOCKFILE_EXCLUSIVE_LOCK | LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &range)) {
    const DWORD error = ::GetLastError();
    if (error == ERROR_LOCK_VIOLATION || error == ERROR_IO_PENDING) return HoldResult::taken;
    failure = {FailureKind::system, static_cast<int>(error), "LockFileEx", path};
    return HoldResult::failed;
  }
  BY_HANDLE_FILE_INFORMATION identity;
  if (!::GetFileInformationByHandle(file.get(), &identity)) {
    failure = {FailureKind::system, static_cast<int>(::GetLastError()), "GetFileInformationByHandle", path};
    return HoldResult::failed;
  }
  auto made = std::make_unique<Win32FileHold>(std::move(file), identity);
  if (!made->isNamed(path)) return HoldResult::gone;
  hold = std::move(made);
  return HoldResult::held;
}

// A volume of this machine, whatever its file system.
bool isLocalFileSystem(const std::string& directory) {
  wchar_t root[MAX_PATH + 1];
  if (!::GetVolumePathNameW(widePath(directory).c_str(), root, MAX_PATH)) return false;
  switch (::GetDriveTypeW(root)) {
    case DRIVE_FIXED:
    case DRIVE_REMOVABLE:
    case DRIVE_RAMDISK: return true;
    default: return false;
  }
}

}  // namespace os_mutex
