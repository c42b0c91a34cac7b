// A failure as JavaScript gets it.
#pragma once

#include <napi.h>

#include "platform_mutex.h"

namespace os_mutex {

// An Error with { kind, errno, syscall, path }: see NativeFailure in src/mutex/addon.ts.
Napi::Error toError(Napi::Env env, const Failure& failure);

}  // namespace os_mutex
