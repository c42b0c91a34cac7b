// What the addon keeps for one JavaScript environment (the main thread's or a worker's): its living mutex objects, its
// pending acquires, and the mailbox by which other threads tell it that one of them is settled.
#pragma once

#include <napi.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "process_mutex.h"

namespace os_mutex {

class MutexObject;

using RequestId = uint32_t;

// Any thread posts, the environment's own thread collects.
class Mailbox {
 public:
  void open(napi_threadsafe_function doorbell);
  void post(RequestId id);
  std::vector<RequestId> collect();
  // Nothing is posted any more. On return no other thread is inside the doorbell.
  void close();

 private:
  std::mutex mutex_;  // also held while ringing, so that close() cannot pull the doorbell away from under a post()
  std::vector<RequestId> news_;
  napi_threadsafe_function doorbell_ = nullptr;
};

class Environment {
 public:
  static void start(Napi::Env env);
  // Shared with the environment's mutex objects, whose finalizers may come later than everything else.
  static std::shared_ptr<Environment> of(Napi::Env env);

  void add(MutexObject* object) { objects_.insert(object); }
  void remove(MutexObject* object) { objects_.erase(object); }
  const std::set<MutexObject*>& objects() const { return objects_; }

  // While an acquire is pending, the process stays alive.
  RequestId addAsync(MutexObject* object, std::shared_ptr<Request>& request);
  void forget(RequestId id);

 private:
  static void onDoorbell(napi_env env, napi_value, void* context, void*);
  static void onTeardown(void* self);
  void deliver(Napi::Env env);

  napi_env env_ = nullptr;
  napi_threadsafe_function doorbell_ = nullptr;
  std::shared_ptr<Mailbox> mailbox_ = std::make_shared<Mailbox>();
  std::set<MutexObject*> objects_;
  std::map<RequestId, MutexObject*> pending_;
  RequestId lastId_ = 0;
};

}  // namespace os_mutex
