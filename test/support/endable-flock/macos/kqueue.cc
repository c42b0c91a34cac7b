// kqueue(2) for Linux, as far as endable_flock_darwin.cc goes. Stricter than macOS, so that what holds here holds
// there: an event is posted only for a real unlock (macOS posts more), and an event of a queue that nobody waits on
// wakes nobody.
//
// The calls of this program to flock, close and dup come here first, since an executable's functions go before the C
// library's. An unlock is one of a description that had the lock: by LOCK_UN, or by the close of its last descriptor.
// The locks of other processes are watched in /proc/locks.
#include <fcntl.h>
#include <pthread.h>
#include <sys/event.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>

namespace {

using Inode = std::pair<dev_t, ino_t>;

// An open file description that was locked once, shared by its descriptors.
struct Description {
  Inode inode;
  bool locked;
};

struct Knote {
  uint16_t flags;
  uint32_t notes;
  Inode inode;  // EVFILT_VNODE
  bool active;
};

struct Queue {
  std::map<std::pair<int16_t, uintptr_t>, Knote> knotes;
  std::condition_variable woken;
};

// Leaked: threads use them until the process is gone.
std::mutex& guard = *new std::mutex;
std::map<int, std::shared_ptr<Queue>>& queues = *new std::map<int, std::shared_ptr<Queue>>;
std::map<int, std::shared_ptr<Description>>& descriptions = *new std::map<int, std::shared_ptr<Description>>;

Inode inodeOf(int fd) {
  struct stat file;
  if (::fstat(fd, &file) != 0) return {};
  return {file.st_dev, file.st_ino};
}

std::shared_ptr<Description> descriptionOf(int fd) {
  auto& description = descriptions[fd];
  if (description == nullptr) description = std::make_shared<Description>(Description{inodeOf(fd), false});
  return description;
}

void postUnlock(const Inode& inode) {
  for (auto& [fd, queue] : queues) {
    for (auto& [key, knote] : queue->knotes) {
      if (key.first != EVFILT_VNODE || knote.inode != inode || (knote.notes & NOTE_FUNLOCK) == 0) continue;
      knote.active = true;
      queue->woken.notify_all();
    }
  }
}

// The files that other processes have locked.
std::set<std::pair<Inode, long>> locksOfOthers() {
  std::set<std::pair<Inode, long>> found;
  const long self = ::getpid();
  std::FILE* file = std::fopen("/proc/locks", "re");
  char line[256];
  while (file != nullptr && std::fgets(line, sizeof line, file) != nullptr) {
    long pid;
    unsigned major, minor;
    unsigned long long ino;
    if (std::sscanf(line, "%*d: FLOCK %*s %*s %ld %x:%x:%llu", &pid, &major, &minor, &ino) != 4) continue;
    if (pid != self) found.insert({{makedev(major, minor), ino}, pid});
  }
  if (file != nullptr) std::fclose(file);
  return found;
}

void* watchOthers(void*) {
  auto before = locksOfOthers();
  for (;;) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    auto now = locksOfOthers();
    std::lock_guard<std::mutex> lock(guard);
    for (const auto& held : before) {
      if (now.count(held) == 0) postUnlock(held.first);
    }
    before = std::move(now);
  }
}

void startWatching() {
  static std::atomic<bool> started{false};
  pthread_t thread;
  if (!started.exchange(true) && pthread_create(&thread, nullptr, watchOthers, nullptr) == 0) {
    pthread_setname_np(thread, "stand-in");
    pthread_detach(thread);
  }
}

int apply(Queue& queue, const struct kevent& change) {
  const std::pair<int16_t, uintptr_t> key{change.filter, change.ident};
  const auto found = queue.knotes.find(key);
  if ((change.flags & EV_ADD) != 0) {
    const bool isActive = found != queue.knotes.end() && found->second.active;
    const Inode inode = change.filter == EVFILT_VNODE ? inodeOf(static_cast<int>(change.ident)) : Inode{};
    queue.knotes[key] = {change.flags, change.fflags, inode, isActive};
    return 0;
  }
  if (found == queue.knotes.end()) return ENOENT;
  if ((change.flags & EV_DELETE) != 0) queue.knotes.erase(found);
  else if (change.filter == EVFILT_USER && (change.fflags & NOTE_TRIGGER) != 0) {
    found->second.active = true;
    queue.woken.notify_all();
  }
  return 0;
}

int collect(Queue& queue, struct kevent* events, int room) {
  int count = 0;
  for (auto& [key, knote] : queue.knotes) {
    if (!knote.active || count == room) continue;
    events[count++] = {key.second, key.first, knote.flags, knote.notes, 0, nullptr};
    if ((knote.flags & EV_CLEAR) != 0) knote.active = false;
  }
  return count;
}

}  // namespace

extern "C" int kqueue() {
  const int fd = ::eventfd(0, 0);
  if (fd < 0) return -1;
  std::lock_guard<std::mutex> lock(guard);
  queues[fd] = std::make_shared<Queue>();
  return fd;
}

extern "C" int kevent(int fd, const struct kevent* changes, int changeCount, struct kevent* events, int eventCount,
                      const struct timespec* timeout) {
  std::unique_lock<std::mutex> lock(guard);
  const auto found = queues.find(fd);
  if (found == queues.end()) return errno = EBADF, -1;
  const auto queue = found->second;
  for (int i = 0; i < changeCount; i++) {
    const int error = apply(*queue, changes[i]);
    if (error != 0) return errno = error, -1;
  }
  if (eventCount == 0) return 0;
  startWatching();
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(timeout->tv_sec);
  for (;;) {
    const int count = collect(*queue, events, eventCount);
    if (count > 0) return count;
    if (queue->woken.wait_until(lock, until) == std::cv_status::timeout) return collect(*queue, events, eventCount);
  }
}

extern "C" int flock(int fd, int operation) noexcept {
  if ((operation & LOCK_UN) == 0) {
    const int result = static_cast<int>(::syscall(SYS_flock, fd, operation));
    if (result != 0) return result;
    std::lock_guard<std::mutex> lock(guard);
    descriptionOf(fd)->locked = true;
    return 0;
  }
  const int result = static_cast<int>(::syscall(SYS_flock, fd, operation));
  std::lock_guard<std::mutex> lock(guard);
  const auto found = descriptions.find(fd);
  if (result == 0 && found != descriptions.end() && std::exchange(found->second->locked, false)) postUnlock(found->second->inode);
  return result;
}

extern "C" int close(int fd) {
  std::shared_ptr<Description> closed;
  {
    std::lock_guard<std::mutex> lock(guard);
    queues.erase(fd);
    for (auto& [ignored, queue] : queues) queue->knotes.erase({EVFILT_VNODE, static_cast<uintptr_t>(fd)});
    const auto found = descriptions.find(fd);
    if (found != descriptions.end()) {
      closed = std::move(found->second);
      descriptions.erase(found);
    }
  }
  const int result = static_cast<int>(::syscall(SYS_close, fd));
  std::lock_guard<std::mutex> lock(guard);
  if (closed != nullptr && closed.use_count() == 1 && closed->locked) postUnlock(closed->inode);
  closed.reset();  // under the guard: another close counts
  return result;
}

extern "C" int dup(int fd) noexcept {
  const int copy = static_cast<int>(::syscall(SYS_dup, fd));
  std::lock_guard<std::mutex> lock(guard);
  if (copy >= 0) descriptions[copy] = descriptionOf(fd);
  return copy;
}
