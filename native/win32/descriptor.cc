#include "descriptor.h"

namespace os_mutex {

// SY is the system, BA the administrators, CO the maker of a file, WD everybody, AC all sandboxed apps (AppContainers),
// FA full access.

// 0x0012019F: FILE_GENERIC_READ | FILE_GENERIC_WRITE, without DELETE.
const char kRecordFileDescriptor[] = "D:(A;;FA;;;SY)(A;;FA;;;BA)(A;;0x0012019F;;;WD)";
// 0x001200AB: FILE_GENERIC_READ | FILE_GENERIC_EXECUTE | FILE_ADD_FILE, without FILE_DELETE_CHILD.
const char kLockHomeDescriptor[] = "D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICIIO;FA;;;CO)(A;;0x001200AB;;;WD)";

// 0x001F0001: MUTEX_ALL_ACCESS. 0x00100001: SYNCHRONIZE | MUTEX_MODIFY_STATE, which is also the right to ask for the
// state.
//
// Rights for the user and not for the owner (OW): what an elevated process makes belongs to the administrators, and a
// plain process of the same user is not one of them. No integrity label: without one the mutex counts as medium, even
// if an elevated process made it. By that, a process of low integrity loses only the rights to write, and for a mutex
// neither SYNCHRONIZE nor MUTEX_MODIFY_STATE is such a right.
// https://learn.microsoft.com/windows/win32/secauthz/mandatory-integrity-control
std::string mutexDescriptor(std::string_view userSid) {
  std::string text = "D:(A;;0x001F0001;;;SY)(A;;0x001F0001;;;BA)";
  if (!userSid.empty()) text.append("(A;;0x001F0001;;;").append(userSid).append(")");
  return text += "(A;;0x00100001;;;WD)(A;;0x00100001;;;AC)";
}

}  // namespace os_mutex
