#include "file_hold_object.h"

#include <string>

#include "failure_error.h"

namespace os_mutex {

Napi::Function FileHoldObject::define(Napi::Env env) {
  return DefineClass(env, "FileHold",
                     {InstanceMethod<&FileHoldObject::isNamed>("isNamed"), InstanceMethod<&FileHoldObject::release>("release")});
}

FileHoldObject::FileHoldObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<FileHoldObject>(info) {
  const std::string path = info[0].As<Napi::String>().Utf8Value();
  Failure failure;
  switch (FileHold::open(path, hold_, failure)) {
    case HoldResult::held: return;
    case HoldResult::taken: failure = {FailureKind::taken, 0, "lock", path}; break;
    case HoldResult::gone: failure = {FailureKind::gone, 0, "open", path}; break;
    case HoldResult::failed: break;
  }
  toError(info.Env(), failure).ThrowAsJavaScriptException();
}

Napi::Value FileHoldObject::isNamed(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), hold_ && hold_->isNamed(info[0].As<Napi::String>().Utf8Value()));
}

void FileHoldObject::release(const Napi::CallbackInfo&) { hold_.reset(); }

}  // namespace os_mutex
