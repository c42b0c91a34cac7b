#include "../process_identity.h"
#include "handle.h"

namespace os_mutex {
namespace {

// From 100 ns since 1601 to microseconds since 1970, which a JavaScript number holds exactly.
uint64_t microseconds(const FILETIME& time) {
  const uint64_t ticks = (static_cast<uint64_t>(time.dwHighDateTime) << 32) | time.dwLowDateTime;
  return ticks / 10 - 11644473600000000u;
}

uint64_t startOf(HANDLE process) {
  FILETIME start;
  FILETIME end;
  FILETIME kernel;
  FILETIME user;
  if (!::GetProcessTimes(process, &start, &end, &kernel, &user)) return kUnknownStart;
  // A process that has ended is still there while somebody has a handle to it.
  return end.dwHighDateTime == 0 && end.dwLowDateTime == 0 ? microseconds(start) : 0;
}

std::string hostName() {
  wchar_t wide[256];
  DWORD size = 256;
  if (!::GetComputerNameExW(ComputerNameDnsHostname, wide, &size)) return {};
  char utf8[1024];
  const int length = ::WideCharToMultiByte(CP_UTF8, 0, wide, static_cast<int>(size), utf8, sizeof utf8, nullptr, nullptr);
  return {utf8, static_cast<size_t>(length)};
}

}  // namespace

uint64_t processStart(long pid) {
  const Handle process(::OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, FALSE, static_cast<DWORD>(pid)));
  if (process) return startOf(process.get());
  // Only for a pid that nobody has, OpenProcess reports an invalid parameter. Any other error says nothing about the
  // process: it is another user's or a protected one, or there is no room for a handle.
  return ::GetLastError() == ERROR_INVALID_PARAMETER ? 0 : kUnknownStart;
}

ProcessIdentity identityOf(long pid) {
  ProcessIdentity found;
  found.pid = pid;
  found.start = processStart(pid);
  return found;
}

const ProcessIdentity& currentProcessIdentity() {
  static const ProcessIdentity identity = [] {
    ProcessIdentity self;
    self.pid = static_cast<long>(::GetCurrentProcessId());
    self.start = startOf(::GetCurrentProcess());
    self.host = hostName();
    // Start times are absolute here: no later boot has a process with this pid and start.
    self.bootId = "-";
    return self;
  }();
  return identity;
}

}  // namespace os_mutex
