// macOS: the thread waits for an event, not in flock, which is no cancellation point there. A signal would get it out
// of flock only as long as nobody else changes the signal's handler. kqueue reports each unlock of a file
// (NOTE_FUNLOCK: by flock(LOCK_UN) or by the last close, so by the owner's death, too), and EVFILT_USER ends the wait.
//
// No unlock is missed. The kernel frees the lock and then posts the event (VNOP_ADVLOCK in xnu's bsd/vfs/kpi_vfs.c):
//   1. The waiter registers.
//   2. It tries: busy, so the owner unlocks after 1.
//   3. The owner unlocks: the event is posted.
//   4. The waiter waits for events: it gets this one, which the queue keeps if 3 came before 4.
//   5. It tries again.
// An unlock between 1 and 2 posts an event as well. It costs one more try.
// An unlock between 4 and 5 is seen by 5, or posts the next event: EV_CLEAR resets the state when 4 takes the event.
//
// No call of end() is missed. Nothing resets the event of EVFILT_USER: whether it comes before lock(), in it or after
// it, the next wait for events returns at once.
//
// An unlock wakes all waiters and hands nothing over. Who comes next depends on their tries, and on courtesy between a
// waiter and the last owner. The kernel keeps no order among such waiters.
#include <fcntl.h>
#include <sys/event.h>
#include <sys/file.h>
#include <sys/time.h>

#include <cerrno>

#include "endable_flock.h"
#include "lock_file.h"

namespace os_mutex {
namespace {

// Some unlocks post no event: that of an fcntl lock (which excludes flock on macOS), a change from LOCK_EX to LOCK_SH,
// and, on a network file system, that of another machine's lock. For them the waiter tries again from time to time.
// Nothing else depends on it.
constexpr timespec kRetryAfter = {2, 0};
constexpr uintptr_t kEnd = 0;

class KqueueFlock final : public EndableFlock {
 public:
  int prepare(const char*& call) override;
  int lock(int fd) override;
  void end(pthread_t thread) override;

 private:
  // 0 or errno. Waits for nothing.
  int change(uintptr_t ident, int16_t filter, uint16_t flags, uint32_t notes) const;
  int lockOrEnd(int fd) const;
  // 0: worth another try.
  int waitForEvent() const;

  Descriptor queue_;
};

int KqueueFlock::change(uintptr_t ident, int16_t filter, uint16_t flags, uint32_t notes) const {
  struct kevent event;
  EV_SET(&event, ident, filter, flags, notes, 0, nullptr);
  int error;
  do {
    error = ::kevent(queue_.get(), &event, 1, nullptr, 0, nullptr) == 0 ? 0 : errno;
  } while (error == EINTR);
  return error;
}

int KqueueFlock::prepare(const char*& call) {
  call = "kqueue";
  queue_ = Descriptor(::kqueue());
  // No child inherits a kqueue: fork(2) closes it. The flag is for tools that check for it, and for posix_spawn.
  if (!queue_ || ::fcntl(queue_.get(), F_SETFD, FD_CLOEXEC) != 0) return errno;
  call = "kevent";
  return change(kEnd, EVFILT_USER, EV_ADD, 0);
}

int KqueueFlock::lock(int fd) {
  const auto file = static_cast<uintptr_t>(fd);
  const int error = change(file, EVFILT_VNODE, EV_ADD | EV_CLEAR, NOTE_FUNLOCK);
  if (error != 0) return error;
  const int result = lockOrEnd(fd);
  // The next wait may be for another descriptor of the file.
  change(file, EVFILT_VNODE, EV_DELETE, 0);
  return result;
}

int KqueueFlock::lockOrEnd(int fd) const {
  for (;;) {
    if (::flock(fd, LOCK_EX | LOCK_NB) == 0) return 0;
    if (errno != EWOULDBLOCK && errno != EINTR) return errno;
    const int error = waitForEvent();
    if (error != 0) return error;
  }
}

int KqueueFlock::waitForEvent() const {
  struct kevent events[2];
  const int count = ::kevent(queue_.get(), nullptr, 0, events, 2, &kRetryAfter);
  if (count < 0) return errno == EINTR ? 0 : errno;
  for (int i = 0; i < count; i++) {
    if (events[i].filter == EVFILT_USER) return ECANCELED;
  }
  return 0;
}

void KqueueFlock::end(pthread_t thread) {
  // It can't fail: the event exists since prepare(), and triggering it takes no memory.
  change(kEnd, EVFILT_USER, 0, NOTE_TRIGGER);
  pthread_join(thread, nullptr);
}

}  // namespace

std::unique_ptr<EndableFlock> EndableFlock::make() { return std::make_unique<KqueueFlock>(); }

}  // namespace os_mutex
