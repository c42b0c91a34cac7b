// preallocate() as JavaScript sees it: a promise, with the work done on a thread of libuv's pool.
#pragma once

#include <napi.h>

namespace os_mutex {

// (path, bytes) → Promise of 'done', 'noRoom', 'tooLarge' or 'unsupported'. Never rejects.
Napi::Value preallocateFile(const Napi::CallbackInfo& info);

}  // namespace os_mutex
