#include "failure_error.h"

#include <string>

namespace os_mutex {
namespace {

const char* nameOf(FailureKind kind) {
  switch (kind) {
    case FailureKind::notRegularFile: return "notRegularFile";
    case FailureKind::hardLinked: return "hardLinked";
    case FailureKind::foreignDirectory: return "foreignDirectory";
    case FailureKind::taken: return "taken";
    case FailureKind::gone: return "gone";
    case FailureKind::system:
    case FailureKind::noDescriptors:
    case FailureKind::none: break;
  }
  return "system";
}

}  // namespace

Napi::Error toError(Napi::Env env, const Failure& failure) {
  Napi::Error error = Napi::Error::New(env, std::string(failure.call) + " failed on " + failure.path);
  error.Set("kind", nameOf(failure.kind));
  error.Set("errno", Napi::Number::New(env, failure.error));
  error.Set("syscall", failure.call);
  error.Set("path", failure.path);
  return error;
}

}  // namespace os_mutex
