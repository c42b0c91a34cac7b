#include "record_file.h"

#include <atomic>
#include <cstring>

#include "../owner_record.h"
#include "security.h"

namespace os_mutex {
namespace {

bool fail(Failure& failure, FailureKind kind, DWORD error, const char* call, const std::string& path) {
  failure = {kind, static_cast<int>(error), call, path};
  return false;
}

// Every user may put things where the lock home belongs, also a junction that leads elsewhere.
bool prepareHome(const std::string& directory, Failure& failure) {
  const std::wstring path = widePath(directory);
  if (!::CreateDirectoryW(path.c_str(), lockHomeSecurity()) && ::GetLastError() != ERROR_ALREADY_EXISTS) {
    return fail(failure, FailureKind::system, ::GetLastError(), "CreateDirectory", directory);
  }
  const DWORD attributes = ::GetFileAttributesW(path.c_str());
  constexpr DWORD kOdd = FILE_ATTRIBUTE_DIRECTORY | FILE_ATTRIBUTE_REPARSE_POINT;
  if (attributes != INVALID_FILE_ATTRIBUTES && (attributes & kOdd) != FILE_ATTRIBUTE_DIRECTORY) {
    return fail(failure, FailureKind::foreignDirectory, 0, "GetFileAttributes", directory);
  }
  return true;
}

}  // namespace

RecordFile::~RecordFile() {
  if (view_ != nullptr) ::UnmapViewOfFile(view_);
}

bool RecordFile::open(const MutexLocation& location, Failure& failure) {
  if (isOpen()) return true;
  if (!location.ownDirectory.empty() && !prepareHome(location.ownDirectory, failure)) return false;
  return map(OPEN_ALWAYS, location, failure);
}

bool RecordFile::openExisting(const MutexLocation& location, Failure& failure) {
  return isOpen() || map(OPEN_EXISTING, location, failure);
}

bool RecordFile::map(DWORD disposition, const MutexLocation& location, Failure& failure) {
  // No FILE_SHARE_DELETE: a file that vanished would hide its owners from those who come later.
  file_ = Handle(::CreateFileW(widePath(location.path).c_str(), GENERIC_READ | GENERIC_WRITE,
                               FILE_SHARE_READ | FILE_SHARE_WRITE, recordFileSecurity(), disposition,
                               FILE_ATTRIBUTE_NORMAL | FILE_FLAG_OPEN_REPARSE_POINT, nullptr));
  if (!file_) return fail(failure, FailureKind::system, ::GetLastError(), "CreateFile", location.path);
  if (!check(location, failure)) {
    file_ = Handle();
    return false;
  }
  // Grows a shorter file to its size.
  mapping_ = Handle(::CreateFileMappingW(file_.get(), nullptr, PAGE_READWRITE, 0, kRecordLimit, nullptr));
  void* view = nullptr;
  if (mapping_) view = ::MapViewOfFile(mapping_.get(), FILE_MAP_READ | FILE_MAP_WRITE, 0, 0, kRecordLimit);
  if (view == nullptr) {
    fail(failure, FailureKind::system, ::GetLastError(), "MapViewOfFile", location.path);
    mapping_ = Handle();
    file_ = Handle();
    return false;
  }
  view_ = static_cast<char*>(view);
  return true;
}

bool RecordFile::check(const MutexLocation& location, Failure& failure) const {
  BY_HANDLE_FILE_INFORMATION info;
  if (!::GetFileInformationByHandle(file_.get(), &info)) {
    return fail(failure, FailureKind::system, ::GetLastError(), "GetFileInformationByHandle", location.path);
  }
  if ((info.dwFileAttributes & (FILE_ATTRIBUTE_REPARSE_POINT | FILE_ATTRIBUTE_DIRECTORY)) != 0) {
    return fail(failure, FailureKind::notRegularFile, 0, "CreateFile", location.path);
  }
  if (info.nNumberOfLinks > 1) return fail(failure, FailureKind::hardLinked, 0, "CreateFile", location.path);
  // Memory mapped from a server may vanish under the process, which would end it.
  FILE_REMOTE_PROTOCOL_INFO remote;
  if (::GetFileInformationByHandleEx(file_.get(), FileRemoteProtocolInfo, &remote, sizeof remote)) {
    return fail(failure, FailureKind::system, ERROR_NOT_SUPPORTED, "MapViewOfFile", location.path);
  }
  return true;
}

bool RecordFile::isMarkedHeld() const { return os_mutex::isMarkedHeld({view_, kHeaderSize}); }

std::string RecordFile::read() const { return {view_, kRecordLimit}; }

// The state goes first, so that a crash in between leaves a mark, with a record that its checksum disowns. Until the checksum is
// back, the record is nobody's: a reader must not take the previous owner for the present one.
void RecordFile::writeHeld(std::string_view json) {
  const EncodedRecord record(json);
  const std::string_view bytes = record.bytes();
  constexpr size_t kBody = kHeaderSize - kStateOffset;
  if (view_[kQueueMarkOffset] == 0) view_[kQueueMarkOffset] = kNotQueued;
  std::memset(view_ + kChecksumOffset, ' ', kHeaderSize - kChecksumOffset);
  std::atomic_thread_fence(std::memory_order_release);
  std::memcpy(view_ + kStateOffset, bytes.data(), kChecksumOffset - kStateOffset);
  std::memcpy(view_ + kHeaderSize, bytes.data() + kBody, bytes.size() - kBody);
  std::atomic_thread_fence(std::memory_order_release);
  std::memcpy(view_ + kChecksumOffset, bytes.data() + kChecksumOffset - kStateOffset, kHeaderSize - kChecksumOffset);
}

void RecordFile::writeFree() { view_[kStateOffset] = kFree; }

}  // namespace os_mutex
