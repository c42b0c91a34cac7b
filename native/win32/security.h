// The descriptors of descriptor.h as the system takes them.
#pragma once

#include <windows.h>

namespace os_mutex {

SECURITY_ATTRIBUTES* mutexSecurity();
SECURITY_ATTRIBUTES* recordFileSecurity();
SECURITY_ATTRIBUTES* lockHomeSecurity();

}  // namespace os_mutex
