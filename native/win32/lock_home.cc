#include "lock_home.h"
#include <winternl.h>

#include "security.h"

namespace os_mutex {
namespace {

// From Ntdef.h of the driver kit, and from Ntstatus.h, which can't be included beside windows.h.
constexpr ULONG kDontReparse = 0x00001000;  // OBJ_DONT_REPARSE
constexpr NTSTATUS kNameNotFound = static_cast<NTSTATUS>(0xC0000034);
constexpr NTSTATUS kNameCollision = static_cast<NTSTATUS>(0xC0000035);
constexpr NTSTATUS kReparsePointEncountered = static_cast<NTSTATUS>(0xC000050B);
constexpr int kTries = 3;  // between making a file and opening it others may do the same, or remove it

Handle fail(Failure& failure, DWORD error, const char* call, const std::string& path) {
  failure = {FailureKind::system, static_cast<int>(error), call, path};
  return Handle();
}

bool isMissing(DWORD error) {
  switch (error) {
    case ERROR_FILE_NOT_FOUND:
    case ERROR_PATH_NOT_FOUND:
    case ERROR_DIRECTORY:     // this and the next: a file is in its place
    case ERROR_INVALID_NAME:
    case ERROR_BAD_NETPATH:
    case ERROR_BAD_NET_NAME: return true;
    default: return false;
  }
}

Handle openFolder(const std::string& path, DWORD flags) {
  constexpr DWORD kShare = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
  return Handle(::CreateFileW(widePath(path).c_str(), FILE_READ_ATTRIBUTES | FILE_TRAVERSE, kShare, nullptr, OPEN_EXISTING,
                              FILE_FLAG_BACKUP_SEMANTICS | flags, nullptr));
}

bool isFolder(const Handle& handle, DWORD refused) {
  BY_HANDLE_FILE_INFORMATION info;
  return ::GetFileInformationByHandle(handle.get(), &info) &&
         (info.dwFileAttributes & (FILE_ATTRIBUTE_DIRECTORY | refused)) == FILE_ATTRIBUTE_DIRECTORY;
}

// The default lock home. This package makes it, and accepts nothing but a folder in its place.
Handle openDefault(const MutexLocation& location, IfMissing ifMissing, Failure& failure) {
  const std::string& path = location.ownDirectory;
  Handle folder = openFolder(path, FILE_FLAG_OPEN_REPARSE_POINT);
  if (!folder && ifMissing == IfMissing::make && isMissing(::GetLastError())) {
    if (!::CreateDirectoryW(widePath(path).c_str(), lockHomeSecurity()) && ::GetLastError() != ERROR_ALREADY_EXISTS) {
      return fail(failure, ::GetLastError(), "CreateDirectory", path);
    }
    folder = openFolder(path, FILE_FLAG_OPEN_REPARSE_POINT);
  }
  if (!folder) return fail(failure, ::GetLastError(), "CreateFile", location.path);
  if (isFolder(folder, FILE_ATTRIBUTE_REPARSE_POINT)) return folder;
  failure = {FailureKind::foreignDirectory, 0, "CreateFile", location.path};
  return Handle();
}

// A folder of the user's choice may well be reached by a link.
Handle openChosen(const MutexLocation& location, size_t split, Failure& failure) {
  Handle folder = openFolder(location.path.substr(0, split), 0);
  if (folder && isFolder(folder, 0)) return folder;
  const DWORD error = folder ? ERROR_PATH_NOT_FOUND : ::GetLastError();
  return fail(failure, isMissing(error) ? ERROR_PATH_NOT_FOUND : error, "CreateFile", location.path);
}

NTSTATUS createFile(const Handle& folder, std::wstring name, ULONG disposition, Handle& file) {
  UNICODE_STRING text;
  text.Buffer = name.data();
  text.Length = text.MaximumLength = static_cast<USHORT>(name.size() * sizeof(wchar_t));
  OBJECT_ATTRIBUTES attributes;
  InitializeObjectAttributes(&attributes, &text, OBJ_CASE_INSENSITIVE | kDontReparse, folder.get(),
                             recordFileSecurity()->lpSecurityDescriptor);
  HANDLE opened = nullptr;
  IO_STATUS_BLOCK io = {};
  // No FILE_SHARE_DELETE: a file that vanished would hide its owners from those who come later.
  const NTSTATUS status =
      ::NtCreateFile(&opened, GENERIC_READ | GENERIC_WRITE | SYNCHRONIZE, &attributes, &io, nullptr, FILE_ATTRIBUTE_NORMAL,
                     FILE_SHARE_READ | FILE_SHARE_WRITE, disposition,
                     FILE_SYNCHRONOUS_IO_NONALERT | FILE_NON_DIRECTORY_FILE | FILE_OPEN_REPARSE_POINT, nullptr, 0);
  if (status >= 0) file = Handle(opened);
  return status;
}

}  // namespace

Handle openInLockHome(const MutexLocation& location, IfMissing ifMissing, Failure& failure) {
  const size_t split = location.path.find_last_of("\\/") + 1;
  const Handle folder =
      location.ownDirectory.empty() ? openChosen(location, split, failure) : openDefault(location, ifMissing, failure);
  if (!folder) return Handle();
  const std::wstring name(location.path.begin() + static_cast<std::ptrdiff_t>(split), location.path.end());  // ASCII
  Handle file;
  NTSTATUS status = kNameCollision;
  for (int attempt = 0; attempt < kTries && status == kNameCollision; attempt++) {
    status = createFile(folder, name, FILE_OPEN, file);
    if (status == kNameNotFound && ifMissing == IfMissing::make) status = createFile(folder, name, FILE_CREATE, file);
  }
  if (file) return file;
  if (status == kReparsePointEncountered) {
    failure = {FailureKind::foreignDirectory, 0, "NtCreateFile", location.path};
    return Handle();
  }
  return fail(failure, ::RtlNtStatusToDosError(status), "NtCreateFile", location.path);
}

}  // namespace os_mutex
