// FileHold as JavaScript sees it.
#pragma once

#include <napi.h>

#include <memory>

#include "file_hold.h"

namespace os_mutex {

class FileHoldObject final : public Napi::ObjectWrap<FileHoldObject> {
 public:
  static Napi::Function define(Napi::Env env);
  // (path). Throws what the system says, or an error of the kind `taken` or `gone`.
  explicit FileHoldObject(const Napi::CallbackInfo& info);

 private:
  Napi::Value isNamed(const Napi::CallbackInfo& info);  // (path)
  void release(const Napi::CallbackInfo& info);

  std::unique_ptr<FileHold> hold_;  // none once released
};

}  // namespace os_mutex
