#include "proc_linux.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "lock_file.h"

namespace os_mutex {

bool readProc(const std::string& path, std::string& text) {
  text.clear();
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return false;
  char buffer[16384];
  for (;;) {
    const ssize_t count = ::read(file.get(), buffer, sizeof buffer);
    if (count > 0) text.append(buffer, static_cast<size_t>(count));
    else if (count == 0) return true;
    else if (errno != EINTR) return false;
  }
}

bool procCountsAsWeDo() {
  char pid[24] = {};
  return ::readlink("/proc/self", pid, sizeof pid - 1) > 0 && std::strtol(pid, nullptr, 10) == ::getpid();
}

std::string procField(const std::string& text, const char* name) {
  const std::string begin = std::string("\n") + name;
  size_t at = 0;
  if (text.compare(0, begin.size() - 1, name) == 0) {
    at = begin.size() - 1;
  } else {
    at = text.find(begin);
    if (at == std::string::npos) return {};
    at += begin.size();
  }
  at = text.find_first_not_of(" \t", at);
  return at == std::string::npos ? std::string() : text.substr(at, text.find('\n', at) - at);
}

}  // namespace os_mutex
