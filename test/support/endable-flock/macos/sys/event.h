// Stands in for macOS's <sys/event.h> on Linux: the part that os-mutex uses, with Apple's values. kqueue.cc implements it.
#pragma once

#include <stdint.h>
#include <time.h>

#define EVFILT_VNODE (-4)
#define EVFILT_USER (-10)
#define EV_ADD 0x0001
#define EV_DELETE 0x0002
#define EV_CLEAR 0x0020
#define NOTE_FUNLOCK 0x00000100
#define NOTE_TRIGGER 0x01000000

struct kevent {
  uintptr_t ident;
  int16_t filter;
  uint16_t flags;
  uint32_t fflags;
  intptr_t data;
  void* udata;
};

#define EV_SET(event, a, b, c, d, e, f) (*(event) = {(a), (b), (c), (d), (e), (f)})

extern "C" int kqueue();
extern "C" int kevent(int queue, const struct kevent* changes, int changeCount, struct kevent* events, int eventCount,
                      const struct timespec* timeout);
