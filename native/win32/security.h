// Who may do what with our mutexes, their record files and the default lock home. Without a descriptor of our own the first
// user, or the first elevated process of one, would lock everybody else out.
#pragma once

#include <windows.h>

namespace os_mutex {

// Every user may wait for the mutex, take it and ask whether it is held; sandboxed apps too.
SECURITY_ATTRIBUTES* mutexSecurity();
// Every user may read and rewrite the record; only its maker and administrators may remove it.
SECURITY_ATTRIBUTES* recordFileSecurity();
// Every user may add files, but not remove those of others.
SECURITY_ATTRIBUTES* lockHomeSecurity();

}  // namespace os_mutex
