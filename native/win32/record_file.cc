#include "record_file.h"

#include <atomic>
#include <cstring>

#include "../owner_record.h"

namespace os_mutex {
namespace {

bool fail(Failure& failure, FailureKind kind, DWORD error, const char* call, const std::string& path) {
  failure = {kind, static_cast<int>(error), call, path};
  return false;
}

// A second name matters only for a file that was somebody's before: writing would damage it. What is empty, or bears
// our header, is ours, and any user may give it a second name.
bool isOurs(HANDLE file) {
  char bytes[kRecordLimit + 1];
  DWORD size = 0;
  if (!::ReadFile(file, bytes, sizeof bytes, &size, nullptr) || size > kRecordLimit) return false;
  const std::string_view content(bytes, size);
  return isRecord(content) || content.find_first_not_of('\0') == std::string_view::npos;
}

}  // namespace

RecordFile::~RecordFile() {
  if (view_ != nullptr) ::UnmapViewOfFile(view_);
}

bool RecordFile::open(const MutexLocation& location, Failure& failure) {
  return isOpen() || map(IfMissing::make, location, failure);
}

bool RecordFile::openExisting(const MutexLocation& location, Failure& failure) {
  return isOpen() || map(IfMissing::fail, location, failure);
}

bool RecordFile::map(IfMissing ifMissing, const MutexLocation& location, Failure& failure) {
  file_ = openInLockHome(location, ifMissing, failure);
  if (!file_) return false;
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
    return fail(failure, FailureKind::notRegularFile, 0, "NtCreateFile", location.path);
  }
  if (info.nNumberOfLinks > 1 && !isOurs(file_.get())) {
    return fail(failure, FailureKind::hardLinked, 0, "NtCreateFile", location.path);
  }
  // Memory mapped from a server may vanish under the process, which would end it.
  FILE_REMOTE_PROTOCOL_INFO remote;
  if (::GetFileInformationByHandleEx(file_.get(), FileRemoteProtocolInfo, &remote, sizeof remote)) {
    return fail(failure, FailureKind::system, ERROR_NOT_SUPPORTED, "MapViewOfFile", location.path);
  }
  return true;
}

bool RecordFile::isMarkedHeld() const { return os_mutex::isMarkedHeld({view_, kHeaderSize}); }

std::string RecordFile::read() const { return {view_, kRecordLimit}; }

// The state goes first, so that a crash in between leaves a mark, with a record that does not match its checksum. Until
// the checksum is back, the record is nobody's: a reader must not take the previous owner for the present one.
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

// The state goes first here, too: a crash in between leaves a free record, and never a mark without its owner. Then
// what the owner wrote is wiped, also what a longer record has left behind it: a purpose is nobody's business once its
// work is done.
void RecordFile::writeFree() {
  view_[kStateOffset] = kFree;
  std::atomic_thread_fence(std::memory_order_release);
  std::memset(view_ + kChecksumOffset, ' ', kHeaderSize - kChecksumOffset);
  std::memset(view_ + kHeaderSize, 0, kRecordLimit - kHeaderSize);
}

}  // namespace os_mutex
