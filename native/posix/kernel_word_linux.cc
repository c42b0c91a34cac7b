// Who holds a flock, as /proc/locks lists it, without taking any lock. See proc(5), "/proc/locks".
#include <linux/magic.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "../process_identity.h"
#include "os.h"
#include "proc_linux.h"

#ifndef BTRFS_SUPER_MAGIC
#define BTRFS_SUPER_MAGIC 0x9123683E
#endif
#ifndef OVERLAYFS_SUPER_MAGIC
#define OVERLAYFS_SUPER_MAGIC 0x794C7630
#endif

namespace os_mutex {
namespace {

// include/linux/proc_ns.h: PROC_PID_INIT_INO, the number of the pid namespace that sees all processes.
constexpr uint64_t kInitialPidSpace = 0xEFFFFFFC;

// A shared lock may be gone at once: a query() in a container takes one only to look (see PosixMutex::snapshot), though
// it may be preempted in between. A shared lock counts if it is still there at this many looks.
constexpr int kLooksAtShared = 6;
constexpr useconds_t kBetweenLooksUs = 1000;

// Whether the list has all locks on a file system, and by which numbers it prints a file.
enum class Listing {
  asStat,       // all of them, by the numbers that stat gives
  asMount,      // all of them, by its own numbers: stat gives those of a subvolume (btrfs) or of a layer (overlayfs)
  perhapsLess,  // other machines, or a server in user space, may hold locks that the kernel has no list of
};

Listing listingOf(int fd) {
  struct statfs status;
  if (::fstatfs(fd, &status) != 0) return Listing::perhapsLess;
  switch (static_cast<unsigned long>(status.f_type) & 0xFFFFFFFF) {
    case EXT4_SUPER_MAGIC:
    case TMPFS_MAGIC:
    case 0x58465342:  // XFS
    case 0xF2F52010:  // F2FS
      return Listing::asStat;
    case BTRFS_SUPER_MAGIC:
    case OVERLAYFS_SUPER_MAGIC:
    case 0x2FC12FC1:  // ZFS
    case 0xCA451A4E:  // bcachefs
      return Listing::asMount;
    default:
      return Listing::perhapsLess;
  }
}

std::string printed(unsigned long long deviceMajor, unsigned long long deviceMinor, unsigned long long inode) {
  char text[80];
  (void)std::snprintf(text, sizeof text, " %02llx:%02llx:%llu ", deviceMajor, deviceMinor, inode);
  return text;
}

// The numbers that the list prints for an open file, on every file system. fdinfo gives the mount, whose line in
// mountinfo has the device. Since Linux 5.14 fdinfo also gives the inode. Empty: unknown, for example because this
// process can't see the mount.
std::string printedByMount(int fd) {
  std::string text;
  if (!readProc("/proc/self/fdinfo/" + std::to_string(fd), text)) return {};
  const std::string mount = procField(text, "mnt_id:");
  const std::string inode = procField(text, "ino:");
  if (mount.empty() || inode.empty() || !readProc("/proc/self/mountinfo", text)) return {};
  // "65 62 0:39 / /tmp/merged rw - overlay …": the mount, its parent, the device.
  const std::string line = procField(text, (mount + " ").c_str());
  const size_t device = line.find(' ') + 1;
  const size_t colon = line.find(':', device);
  if (device == 0 || colon == std::string::npos) return {};
  const auto number = [](const std::string& digits, size_t at) { return std::strtoull(digits.c_str() + at, nullptr, 10); };
  return printed(number(line, device), number(line, colon + 1), number(inode, 0));
}

enum class Found { none, shared, exclusive };

// A line reads "12: FLOCK  ADVISORY  WRITE 4711 08:01:131090 0 EOF"; a blocked request has "->" after the number.
Found findOwner(const std::string& locks, const std::string& wanted, long& pid) {
  for (size_t at = locks.find(wanted); at != std::string::npos; at = locks.find(wanted, at + 1)) {
    const size_t start = locks.rfind('\n', at) == std::string::npos ? 0 : locks.rfind('\n', at) + 1;
    const std::string line = locks.substr(start, at - start);
    if (line.find("FLOCK") == std::string::npos || line.find("->") != std::string::npos) continue;
    pid = std::strtol(line.c_str() + line.rfind(' ') + 1, nullptr, 10);
    return line.find(" READ ") == std::string::npos ? Found::exclusive : Found::shared;
  }
  return Found::none;
}

}  // namespace

// A lock is listed only for processes that can see its owner's pid, so its absence proves something only in the initial
// pid namespace. A large list comes in several reads and may change between two, so it is read twice.
KernelWord askKernel(int fd, const struct stat& file, long& pid) {
  pid = 0;
  const Listing listing = listingOf(fd);
  std::string wanted = listing == Listing::asStat ? std::string() : printedByMount(fd);
  const bool isExact = listing == Listing::asStat || !wanted.empty();
  if (wanted.empty()) wanted = printed(major(file.st_dev), minor(file.st_dev), file.st_ino);
  const bool ourPids = procCountsAsWeDo();
  std::string locks;
  int sharedSeen = 0;
  for (int absent = 0; absent < 2;) {
    if (!readProc("/proc/locks", locks)) return KernelWord::unknown;
    long owner = 0;
    const Found found = findOwner(locks, wanted, owner);
    if (found == Found::exclusive || (found == Found::shared && ++sharedSeen == kLooksAtShared)) {
      if (ourPids && owner > 0) pid = owner;
      return KernelWord::held;
    }
    if (found == Found::shared) {
      ::usleep(kBetweenLooksUs);
      continue;
    }
    absent = locks.size() < 4096 ? 2 : absent + 1;
  }
  const bool listsAll = ourPids && currentProcessIdentity().pidSpace == kInitialPidSpace;
  return listsAll && isExact && listing != Listing::perhapsLess ? KernelWord::free : KernelWord::unknown;
}

}  // namespace os_mutex
