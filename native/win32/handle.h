// What every Win32 file needs: an owned handle, and UTF-8 as the UTF-16 that the kernel speaks.
#pragma once

#include <windows.h>

#include <string>
#include <utility>

namespace os_mutex {

class Handle {
 public:
  Handle() = default;
  // Both NULL and INVALID_HANDLE_VALUE mean no handle: which of them reports a failure differs from call to call.
  explicit Handle(HANDLE handle) : handle_(handle == INVALID_HANDLE_VALUE ? nullptr : handle) {}
  Handle(Handle&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  ~Handle() {
    if (handle_ != nullptr) ::CloseHandle(handle_);
  }

  HANDLE get() const { return handle_; }
  explicit operator bool() const { return handle_ != nullptr; }

 private:
  HANDLE handle_ = nullptr;
};

// An absolute path as the kernel takes it, past the rules of Win32: no limit of 260 units, no device names, no dots or
// spaces that are dropped.
std::wstring widePath(const std::string& utf8);

}  // namespace os_mutex
