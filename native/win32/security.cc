#include "security.h"

#include <sddl.h>

#include <string>

#include "descriptor.h"
#include "handle.h"

namespace os_mutex {
namespace {

class Security {
 public:
  explicit Security(const std::string& text) : attributes_{sizeof attributes_, nullptr, FALSE} {
    // Fails only for lack of memory. The default descriptor, which serves one user, is better than no lock at all.
    ::ConvertStringSecurityDescriptorToSecurityDescriptorA(text.c_str(), SDDL_REVISION_1, &attributes_.lpSecurityDescriptor,
                                                           nullptr);
  }
  SECURITY_ATTRIBUTES* get() { return &attributes_; }

 private:
  SECURITY_ATTRIBUTES attributes_;  // its descriptor lives as long as the process
};

HANDLE processToken() {
  HANDLE token = nullptr;
  return ::OpenProcessToken(::GetCurrentProcess(), TOKEN_QUERY, &token) ? token : nullptr;
}

// The user of this process, the same whether it is elevated or not. Empty: unknown.
std::string userSid() {
  const Handle token(processToken());
  alignas(TOKEN_USER) char bytes[sizeof(TOKEN_USER) + SECURITY_MAX_SID_SIZE];
  DWORD size = 0;
  char* text = nullptr;
  if (!token || !::GetTokenInformation(token.get(), TokenUser, bytes, sizeof bytes, &size) ||
      !::ConvertSidToStringSidA(reinterpret_cast<const TOKEN_USER*>(bytes)->User.Sid, &text)) {
    return {};
  }
  std::string sid = text;
  ::LocalFree(text);
  return sid;
}

}  // namespace

SECURITY_ATTRIBUTES* mutexSecurity() {
  static Security security(mutexDescriptor(userSid()));
  return security.get();
}

SECURITY_ATTRIBUTES* recordFileSecurity() {
  static Security security(kRecordFileDescriptor);
  return security.get();
}

SECURITY_ATTRIBUTES* lockHomeSecurity() {
  static Security security(kLockHomeDescriptor);
  return security.get();
}

}  // namespace os_mutex
