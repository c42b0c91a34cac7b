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

// JavaScript identifies an acquisition by the number of its hold; 0 is none. A grant with more to report is an object:
// { hold, waitedMs, abandoned, previousOwner?: JSON, unrecorded?: Error }.
class MutexObject final : public Napi::ObjectWrap<MutexObject>, public Environment::Client {
 public:
  static Napi::Function define(Napi::Env env);
  // (path, ownDirectory or undefined, objectName, ownerJsonWithoutClosingBrace, dispatch, mode or undefined)
  explicit MutexObject(const Napi::CallbackInfo& info);
  ~MutexObject() override;

  void abandonAll() override;
  Environment::Settled settle(Hold hold, Failure& failure) override;
  napi_value dispatch() const override { return dispatch_.Value(); }
  bool takes(const ProcessMutex& mutex) const override;

 private:
  Napi::Value tryAcquire(const Napi::CallbackInfo& info);   // (purposeJson?) → 0, hold or grant
  Napi::Value enqueue(const Napi::CallbackInfo& info);      // (purposeJson?, lock, resolve) → hold; a grant calls `resolve(lock)`
  Napi::Value grantOf(const Napi::CallbackInfo& info);      // (hold) → grant, once
  Napi::Value enqueueSync(const Napi::CallbackInfo& info);  // (purposeJson?) → hold, for waitSync
  Napi::Value waitSync(const Napi::CallbackInfo& info);     // (hold, milliseconds) → grant or undefined: blocks until there is one
  Napi::Value cancel(const Napi::CallbackInfo& info);       // (hold, takeBack) → whether it was called off
  void release(const Napi::CallbackInfo& info);             // (hold)
  void giveBack(const Napi::CallbackInfo& info);            // (hold): as if it had never been acquired
  void report(const Napi::CallbackInfo& info);              // (hold, progressJson)
  void noteCollected(const Napi::CallbackInfo& info);       // (hold): says in the record that nobody can release it
  Napi::Value isLost(const Napi::CallbackInfo& info);       // (hold)
  void keepYoung(const Napi::CallbackInfo& info);           // (hold)
  // Whether this thread holds or awaits the mutex, through any instance: a blocking wait for it could never end.
  Napi::Value isTakenInThisThread(const Napi::CallbackInfo& info);
  Napi::Value query(const Napi::CallbackInfo& info);  // (mayProbe)
  // Nothing can be acquired after it. Closes the descriptors as soon as nothing is held or pending, which may be long
  // before the garbage collector runs.
  void close(const Napi::CallbackInfo& info);
  void dropIfDone();

  using Clock = std::chrono::steady_clock;

  struct Pending {
    std::shared_ptr<Request> request;
    std::string purpose;
    Clock::time_point since;
    Napi::FunctionReference resolve;
    Napi::ObjectReference lock;
    Clock::duration waited{};  // once granted
  };
  using Pendings = std::map<Hold, Pending>;

  Hold addPending(const Napi::CallbackInfo& info, const std::shared_ptr<Request>& request);
  Pendings::iterator pendingAt(const Napi::CallbackInfo& info);
  // Delivers a granted request, under the lock of its ProcessMutex, and makes it this object's latest acquisition.
  Request::State deliver(Pending& pending);
  Napi::Value takeGrant(Pendings::iterator found);
  Napi::Value describe(Hold hold, const Acquired& acquired, Clock::duration waited);
  void begin(Hold hold, const Acquired& acquired);
  std::string_view composeBase(std::string_view purpose);
  std::string_view composeRecord();

  std::shared_ptr<Environment> environment_;
  std::shared_ptr<ProcessMutex> mutex_;  // none once closed and done
  bool closed_ = false;
  std::string owner_;
  Napi::FunctionReference dispatch_;
  Pendings pending_;
  // The latest acquisition through this object, over or not.
  Hold hold_ = 0;
  Acquired acquired_;
  std::string record_;    // its JSON without the two fields below
  std::string progress_;  // JSON
  bool collected_ = false;
  std::string draft_;     // scratch for JSON. It and record_ keep their memory, so an acquire allocates none
};

}  // namespace os_mutex
