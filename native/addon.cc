// The module: what JavaScript gets from os_mutex.node. Loaded once in each environment that asks for it.
#include <napi.h>

#include "environment.h"
#include "file_hold.h"
#include "file_hold_object.h"
#include "mutex_object.h"
#include "preallocate_task.h"
#include "process_identity.h"

namespace {

Napi::Value processIdentity(const Napi::CallbackInfo& info) {
  const os_mutex::ProcessIdentity& self = os_mutex::currentProcessIdentity();
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("pid", Napi::Number::New(info.Env(), static_cast<double>(self.pid)));
  result.Set("processStart", Napi::Number::New(info.Env(), static_cast<double>(self.start)));
  result.Set("host", self.host);
  result.Set("bootId", self.bootId);
  result.Set("pidSpace", Napi::Number::New(info.Env(), static_cast<double>(self.pidSpace)));
  return result;
}

// (pid) → start time, 0 when there is no such process, undefined when the system does not report it.
Napi::Value processStart(const Napi::CallbackInfo& info) {
  const long pid = static_cast<long>(info[0].As<Napi::Number>().Int64Value());
  const uint64_t start = os_mutex::processStart(pid);
  return start == os_mutex::kUnknownStart ? info.Env().Undefined()
                                          : Napi::Number::New(info.Env(), static_cast<double>(start));
}

// (pid) → how that process identifies itself; what the system does not report is absent. undefined: there is no such
// process.
Napi::Value processBehind(const Napi::CallbackInfo& info) {
  const os_mutex::ProcessIdentity found = os_mutex::identityOf(static_cast<long>(info[0].As<Napi::Number>().Int64Value()));
  if (found.start == 0) return info.Env().Undefined();
  Napi::Object result = Napi::Object::New(info.Env());
  const auto set = [&](const char* name, double value) { result.Set(name, Napi::Number::New(info.Env(), value)); };
  if (found.pid != 0) set("pid", static_cast<double>(found.pid));
  if (found.start != os_mutex::kUnknownStart) set("processStart", static_cast<double>(found.start));
  if (found.pidSpace != 0) set("pidSpace", static_cast<double>(found.pidSpace));
  return result;
}

// (directory) → its file system's name when locks are not reliable on it, else undefined.
Napi::Value unsafeFileSystem(const Napi::CallbackInfo& info) {
  const char* const name = os_mutex::unsafeFileSystem(info[0].As<Napi::String>().Utf8Value());
  return name == nullptr ? info.Env().Undefined() : Napi::String::New(info.Env(), name);
}

// (directory) → whether only this machine's kernel has to do with its files.
Napi::Value isLocalFileSystem(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), os_mutex::isLocalFileSystem(info[0].As<Napi::String>().Utf8Value()));
}

Napi::Value localScopeId(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(os_mutex::localScopeId()));
}

// → how many unused mutexes keep their descriptors for now.
Napi::Value restIdle(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(os_mutex::ProcessMutex::restIdle()));
}

Napi::Object start(Napi::Env env, Napi::Object exports) {
  os_mutex::Environment::start(env);
  exports.Set("NativeMutex", os_mutex::MutexObject::define(env));
  exports.Set("FileHold", os_mutex::FileHoldObject::define(env));
  exports.Set("isLocalFileSystem", Napi::Function::New<isLocalFileSystem>(env));
  exports.Set("processIdentity", Napi::Function::New<processIdentity>(env));
  exports.Set("processStart", Napi::Function::New<processStart>(env));
  exports.Set("processBehind", Napi::Function::New<processBehind>(env));
  exports.Set("localScopeId", Napi::Function::New<localScopeId>(env));
  exports.Set("preallocate", Napi::Function::New<os_mutex::preallocateFile>(env));
  exports.Set("restIdle", Napi::Function::New<restIdle>(env));
  exports.Set("unsafeFileSystem", Napi::Function::New<unsafeFileSystem>(env));
  return exports;
}

}  // namespace

NODE_API_MODULE(os_mutex, start)
