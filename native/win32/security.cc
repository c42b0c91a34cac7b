#include "security.h"

#include <sddl.h>

namespace os_mutex {
namespace {

// Security descriptor definition language: SY is the system, BA the administrators, CO the maker of a file, WD everybody, AC
// all sandboxed apps (AppContainers), FA full access.
// 0x00100001: SYNCHRONIZE | MUTEX_MODIFY_STATE, which is also the right to ask for the state.
constexpr wchar_t kMutex[] = L"D:(A;;0x001F0001;;;SY)(A;;0x001F0001;;;BA)(A;;0x00100001;;;WD)(A;;0x00100001;;;AC)";
// 0x0012019F: FILE_GENERIC_READ | FILE_GENERIC_WRITE, without DELETE.
constexpr wchar_t kRecordFile[] = L"D:(A;;FA;;;SY)(A;;FA;;;BA)(A;;0x0012019F;;;WD)";
// 0x001200AB: FILE_GENERIC_READ | FILE_GENERIC_EXECUTE | FILE_ADD_FILE, without FILE_DELETE_CHILD.
constexpr wchar_t kLockHome[] = L"D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICIIO;FA;;;CO)(A;;0x001200AB;;;WD)";

class Security {
 public:
  explicit Security(const wchar_t* text) : attributes_{sizeof attributes_, nullptr, FALSE} {
    // Fails only for want of memory. The default descriptor, which serves one user, is better than no lock at all.
    ::ConvertStringSecurityDescriptorToSecurityDescriptorW(text, SDDL_REVISION_1, &attributes_.lpSecurityDescriptor, nullptr);
  }
  SECURITY_ATTRIBUTES* get() { return &attributes_; }

 private:
  SECURITY_ATTRIBUTES attributes_;  // its descriptor lives as long as the process
};

}  // namespace

SECURITY_ATTRIBUTES* mutexSecurity() {
  static Security security(kMutex);
  return security.get();
}

SECURITY_ATTRIBUTES* recordFileSecurity() {
  static Security security(kRecordFile);
  return security.get();
}

SECURITY_ATTRIBUTES* lockHomeSecurity() {
  static Security security(kLockHome);
  return security.get();
}

}  // namespace os_mutex
