// musl on x86-64. Before version 1.2.5, its handler of a cancellation resumes the interrupted thread in pthread_exit as
// if a function had just been called there, on the stack as it happens to be:
// https://git.musl-libc.org/cgit/musl/commit/?id=ad5dcd398b9509cf43672e3a7f02c4b18035998c
// The ABI wants rsp % 16 == 8 at that point. Where it is 0, an SSE instruction of pthread_exit or of a destructor of a
// thread-local faults. So the signal of a cancellation may come only in one function that never moves rsp.
//
// end() in the other thread does two things: F sets the flag of the request, S sends the signal, which is blocked here:
//   1. The thread blocks the signal and enables asynchronous cancellation, in C.
//   2. pthread_setcanceltype looks at the flag, and sees F if that came first: a plain call of pthread_exit.
//   3. osMutexFlock unblocks the signal. If S came between 1 and here (so F after 2), it is delivered as this system
//      call returns: inside osMutexFlock.
//   4. osMutexFlock calls flock. S interrupts it: inside osMutexFlock. The thread may have got the lock.
//   5. osMutexFlock blocks the signal. S just before is delivered inside osMutexFlock, S after it stays pending.
//   6. The thread disables cancellation, in C. Nothing here looks at the flag.
// A request that came after 5 ends the thread in 2 of its next call, if there is one.
// The signal stays blocked in between. Where it is not, before the first call, the handler finds cancellation disabled
// and returns, and 2 sees the flag.
#include <features.h>

#if !defined(__GLIBC__) && defined(__x86_64__)

// Only C headers: musl-gcc, which a test uses, has no others.
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cancellable_flock.h"

// int fd in edi, const uint64_t* mask in rsi. A system call keeps all registers but rax, rcx and r11, so nothing has to
// be saved on the stack.
static_assert(SYS_rt_sigprocmask == 14 && SYS_flock == 73);
static_assert(SIG_BLOCK == 0 && SIG_UNBLOCK == 1 && LOCK_EX == 2);
asm(R"(
  .pushsection .text.osMutexFlock, "ax", @progbits
  .hidden osMutexFlock
  .globl osMutexFlock
  .type osMutexFlock, @function
osMutexFlock:
  .cfi_startproc
  movl %edi, %r8d
  movq %rsi, %r9

  movl $14, %eax          # rt_sigprocmask(SIG_UNBLOCK, mask, nullptr, 8)
  movl $1, %edi
  xorl %edx, %edx
  movl $8, %r10d
  syscall

  movl $73, %eax          # flock(fd, LOCK_EX)
  movl %r8d, %edi
  movl $2, %esi
  syscall
  movq %rax, %r8

  movl $14, %eax          # rt_sigprocmask(SIG_BLOCK, mask, nullptr, 8)
  xorl %edi, %edi
  movq %r9, %rsi
  syscall

  movq %r8, %rax
  ret
  .cfi_endproc
  .size osMutexFlock, . - osMutexFlock
  .popsection
)");
// 0 or -errno.
extern "C" __attribute__((visibility("hidden"))) long osMutexFlock(int fd, const uint64_t* mask);

namespace os_mutex {
namespace {

// musl's SIGCANCEL, 33 in all its versions. Its own pthread_sigmask need not let it through, so the kernel is asked.
constexpr uint64_t kCancelSignal = uint64_t{1} << (33 - 1);

}  // namespace

int cancellableFlock(int fd) {
  ::syscall(SYS_rt_sigprocmask, SIG_BLOCK, &kCancelSignal, nullptr, sizeof kCancelSignal);
  int ignored;
  pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &ignored);
  pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &ignored);
  const auto error = static_cast<int>(-osMutexFlock(fd, &kCancelSignal));
  pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &ignored);
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &ignored);
  return error;
}

}  // namespace os_mutex

#endif
