// A system without libgcc_s.so.1, for whoever asks for it while this is preloaded.
#include <dlfcn.h>

#include <cstring>

extern "C" void* dlopen(const char* file, int mode) noexcept {
  using Dlopen = void* (*)(const char*, int);
  static const auto real = reinterpret_cast<Dlopen>(::dlsym(RTLD_NEXT, "dlopen"));
  if (file != nullptr && std::strstr(file, "libgcc_s.so.1") != nullptr) return nullptr;
  return real(file, mode);
}
