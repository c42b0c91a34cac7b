// Who may do what with our mutexes, their record files and the default lock home, as security descriptors in text
// (SDDL). Without descriptors like these the first user, or the first elevated process of a user, would lock all others
// out. No system call here: a test reads these texts on any system.
#pragma once

#include <string>
#include <string_view>

namespace os_mutex {

// The user of `userSid` may do everything with the mutex, so that the plain CreateMutexW of that user succeeds: it asks
// for MUTEX_ALL_ACCESS. All other users and sandboxed apps may wait for it, release it and ask whether it is held.
// `userSid`: "S-1-…", or empty where it is not known.
std::string mutexDescriptor(std::string_view userSid);
// Every user may read and rewrite the record. Only its maker and administrators may remove it.
extern const char kRecordFileDescriptor[];
// Every user may add files, but not remove those of others.
extern const char kLockHomeDescriptor[];

}  // namespace os_mutex
