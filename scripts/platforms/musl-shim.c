// Test only. Lets Debian's libstdc++.so.6 and libgcc_s.so.1, which were made for glibc, serve musl Bun: the few glibc symbols that
// musl has not. Alpine has its own builds of both libraries and needs none of this.
#define _GNU_SOURCE
#include <link.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

char __libc_single_threaded = 0;

// libgcc_s exports these under a version that is not its default one, which musl does not look for.
struct { unsigned words[8]; } __cpu_model;
int __cpu_indicator_init(void) { return 0; }

uint32_t arc4random(void) {
  uint32_t value = 0;
  if (getrandom(&value, sizeof value, 0) != sizeof value) abort();
  return value;
}

size_t __strftime_l(char *to, size_t size, const char *format, const struct tm *time, locale_t locale) {
  return strftime_l(to, size, format, time, locale);
}

// Destructors of thread_local objects, run at the end of the thread.
struct destructor {
  void (*run)(void *);
  void *object;
  struct destructor *next;
};
static pthread_key_t destructors;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void runAll(void *first) {
  for (struct destructor *one = first; one;) {
    struct destructor *next = one->next;
    one->run(one->object);
    free(one);
    one = next;
  }
}

static void makeKey(void) { pthread_key_create(&destructors, runAll); }

int __cxa_thread_atexit_impl(void (*run)(void *), void *object, void *library) {
  (void)library;
  struct destructor *one = malloc(sizeof *one);
  if (!one) return -1;
  pthread_once(&once, makeKey);
  *one = (struct destructor){run, object, pthread_getspecific(destructors)};
  return pthread_setspecific(destructors, one);
}

// How libgcc finds the unwind tables since glibc 2.35.
struct search {
  uintptr_t address;
  struct dl_find_object *found;
};

static int look(struct dl_phdr_info *library, size_t size, void *data) {
  (void)size;
  struct search *search = data;
  void *ehFrame = 0;
  uintptr_t start = 0, end = 0;
  for (int index = 0; index < library->dlpi_phnum; index++) {
    const ElfW(Phdr) *part = &library->dlpi_phdr[index];
    uintptr_t at = library->dlpi_addr + part->p_vaddr;
    if (part->p_type == PT_GNU_EH_FRAME) ehFrame = (void *)at;
    if (part->p_type == PT_LOAD && search->address - at < part->p_memsz) start = at, end = at + part->p_memsz;
  }
  if (!start || !ehFrame) return 0;
  search->found->dlfo_flags = 0;
  search->found->dlfo_map_start = (void *)start;
  search->found->dlfo_map_end = (void *)end;
  search->found->dlfo_link_map = 0;
  search->found->dlfo_eh_frame = ehFrame;
  return 1;
}

int _dl_find_object(void *address, struct dl_find_object *found) {
  struct search search = {(uintptr_t)address, found};
  return dl_iterate_phdr(look, &search) == 1 ? 0 : -1;
}
