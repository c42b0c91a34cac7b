// The class that JavaScript sees: one NamedMutex instance in one environment. All on that environment's thread.
#pragma once

#include <napi.h>

#include <chrono>
#include <map>
#include <memory>
#include <string>

#include "environment.h"
#include "process_mutex.h"

namespace os_mutex {

// An acquisition's token in JavaScript: 0 is none, else four times the hold, plus 1 when the mutex was abandoned, plus 2 when it
// keeps no owner record.
class MutexObject final : public Napi::ObjectWrap<MutexObject> {
 public:
  static Napi::Function define(Napi::Env env);
  // (path, ownDirectory or undefined, objectName, ownerJsonWithoutClosingBrace, dispatch)
  explicit MutexObject(const Napi::CallbackInfo& info);
  ~MutexObject() override;

  void abandonAll();
  // Looks whether a pending acquire has got the mutex, with nothing to tell of it, and resolves its promise if so. False: see dispatch.
  bool settle(RequestId id);
  // `dispatch(id)` is called when a pending acquire has, or may have, an outcome to take.
  napi_value dispatch() const { return dispatch_.Value(); }

 private:
  Napi::Value tryAcquire(const Napi::CallbackInfo& info);  // (purposeJson?) → token
  Napi::Value enqueue(const Napi::CallbackInfo& info);     // (purposeJson?) → request id, dispatched when it may be taken
  void handTo(const Napi::CallbackInfo& info);             // (id, resolve, lock): `resolve(lock)` comes first, on a plain grant
  Napi::Value enqueueSync(const Napi::CallbackInfo& info); // (purposeJson?) → request id, for waitSync
  void waitSync(const Napi::CallbackInfo& info);           // (id, milliseconds): blocks until it may be taken
  Napi::Value tokenOf(const Napi::CallbackInfo& info);     // (id) → its token, should it get the mutex with nothing to tell of it
  Napi::Value take(const Napi::CallbackInfo& info);        // (id) → token, 0 when it still waits
  Napi::Value waitedMs(const Napi::CallbackInfo& info);    // from enqueue to delivery, of what was taken last
  Napi::Value cancel(const Napi::CallbackInfo& info);      // (id, takeBack) → whether it was called off
  void release(const Napi::CallbackInfo& info);            // (token)
  void abandon(const Napi::CallbackInfo& info);            // (token)
  void giveBack(const Napi::CallbackInfo& info);           // (token)
  void report(const Napi::CallbackInfo& info);             // (token, progressJson)
  Napi::Value recordFailure(const Napi::CallbackInfo& info);  // why it keeps no owner record, as an Error
  Napi::Value previousOwner(const Napi::CallbackInfo& info);  // of the latest abandoned acquisition: JSON or undefined
  // Whether this thread holds or awaits the mutex, through any instance: a blocking wait for it could never end.
  Napi::Value isTakenInThisThread(const Napi::CallbackInfo& info);
  Napi::Value query(const Napi::CallbackInfo& info);
  // Nothing is acquired any more. Gives the descriptors back as soon as nothing is held or pending either, which may be long
  // before the garbage collector comes.
  void close(const Napi::CallbackInfo& info);
  void dropIfDone();

  using Clock = std::chrono::steady_clock;

  struct Pending {
    std::shared_ptr<Request> request;
    std::string purpose;
    Clock::time_point since;
    Napi::FunctionReference resolve;
    Napi::ObjectReference lock;
    double token = 0;  // once delivered
    Clock::time_point deliveredAt;
  };

  std::string_view compose(std::string_view purpose);
  double acquire(Hold hold, Acquired& acquired);
  RequestId addPending(const Napi::CallbackInfo& info, RequestId id, const std::shared_ptr<Request>& request);
  std::map<RequestId, Pending>::iterator pendingAt(const Napi::CallbackInfo& info);

  std::shared_ptr<Environment> environment_;
  std::shared_ptr<ProcessMutex> mutex_;  // none once closed and done
  bool closed_ = false;
  std::string owner_;
  Napi::FunctionReference dispatch_;
  std::map<RequestId, Pending> pending_;
  RequestId lastSyncId_ = 0;
  Hold hold_ = 0;            // the latest acquisition through this object, over or not
  std::string record_;       // its JSON
  std::string draft_;        // the JSON of the acquisition being made. Both keep their memory: no allocation on the way
  std::string previousOwner_;
  Clock::duration waited_{};
};

}  // namespace os_mutex
