// What the addon keeps for one JavaScript environment (the main thread's or a worker's): its living mutex objects, its
// pending acquires, and the doorbell by which other threads notify it that one of them is settled.
#pragma once

#include <napi.h>

#include <cstdint>
#include <map>
#include <memory>
#include <set>

#include "process_mutex.h"
#include "sync.h"

namespace os_mutex {

// Any thread rings, for a pending acquire; the environment's own thread answers.
class Doorbell {
 public:
  void open(napi_threadsafe_function function);
  void ring(Hold hold);
  // Later rings do nothing. On return, no other thread is inside ring().
  void close();

 private:
  Mutex mutex_;  // held while ringing, so that close() cannot pull the function away from under it
  napi_threadsafe_function function_ GUARDED_BY(mutex_) = nullptr;
};

class Environment {
 public:
  enum class Settled {
    nothing,
    resolved,  // just now; look again when the code that awaits it has run
    over,      // dispatch comes next, with `failure` if it has failed
  };

  // A mutex object, as its environment needs it.
  class Client {
   public:
    virtual ~Client() = default;
    // Checks whether a pending acquire has an outcome. A grant resolves its promise at once, in this call.
    virtual Settled settle(Hold hold, Failure& failure) = 0;
    // JavaScript's `dispatch(hold, failure?)`: does the rest when a pending acquire was granted or has failed.
    virtual napi_value dispatch() const = 0;
    // Cancels its waits, and releases what it holds as abandoned.
    virtual void abandonAll() = 0;
    // Whether it holds or awaits the mutex.
    virtual bool takes(const ProcessMutex& mutex) const = 0;
  };

  static void start(Napi::Env env);
  // Shared with the environment's mutex objects, whose finalizers may come later than everything else.
  static std::shared_ptr<Environment> of(Napi::Env env);

  void add(Client* object) { objects_.insert(object); }
  void remove(Client* object) { objects_.erase(object); }
  const std::set<Client*>& objects() const { return objects_; }

  // Makes a pending acquire. While there is one, the process stays alive.
  std::shared_ptr<Request> addAsync(Client* object);
  void forget(Hold hold);

 private:
  static void onDoorbell(napi_env env, napi_value, void* context, void* hold);
  static void onTeardown(void* self);
  void settle(Napi::Env env, Hold hold);

  napi_env env_ = nullptr;
  napi_threadsafe_function function_ = nullptr;
  std::shared_ptr<Doorbell> bell_ = std::make_shared<Doorbell>();
  std::set<Client*> objects_;
  std::map<Hold, Client*> pending_;
};

}  // namespace os_mutex
