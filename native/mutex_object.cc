#include "mutex_object.h"

#include <charconv>
#include <chrono>

#include "failure_error.h"
#include "sync.h"

namespace os_mutex {
namespace {

class SyncRequest final : public Request {
 public:
  using Request::Request;
  void wake() override {
    {
      const Guard guard(mutex_);
      woken_ = true;
    }
    condition_.notifyOne();
  }

  void waitFor(std::chrono::microseconds limit) {
    const auto deadline = Condition::Clock::now() + limit;
    const Guard guard(mutex_);
    while (!woken_ && condition_.waitUntil(mutex_, deadline)) continue;
    woken_ = false;
  }

 private:
  Mutex mutex_;
  Condition condition_;
  bool woken_ GUARDED_BY(mutex_) = false;
};

std::string optionalString(const Napi::CallbackInfo& info, size_t index) {
  return info[index].IsString() ? info[index].As<Napi::String>().Utf8Value() : std::string();
}

Hold holdOf(const Napi::CallbackInfo& info) {
  return static_cast<Hold>(info[0].As<Napi::Number>().Int64Value());
}

Napi::Value toNumber(Napi::Env env, Hold hold) { return Napi::Number::New(env, static_cast<double>(hold)); }

}  // namespace

Napi::Function MutexObject::define(Napi::Env env) {
  return DefineClass(env, "NativeMutex",
                     {
                         InstanceMethod<&MutexObject::tryAcquire>("tryAcquire"),
                         InstanceMethod<&MutexObject::enqueue>("enqueue"),
                         InstanceMethod<&MutexObject::grantOf>("grantOf"),
                         InstanceMethod<&MutexObject::enqueueSync>("enqueueSync"),
                         InstanceMethod<&MutexObject::waitSync>("waitSync"),
                         InstanceMethod<&MutexObject::cancel>("cancel"),
                         InstanceMethod<&MutexObject::release>("release"),
                         InstanceMethod<&MutexObject::giveBack>("giveBack"),
                         InstanceMethod<&MutexObject::report>("report"),
                         InstanceMethod<&MutexObject::noteCollected>("noteCollected"),
                         InstanceMethod<&MutexObject::isLost>("isLost"),
                         InstanceMethod<&MutexObject::keepYoung>("keepYoung"),
                         InstanceMethod<&MutexObject::isTakenInThisThread>("isTakenInThisThread"),
                         InstanceMethod<&MutexObject::query>("query"),
                         InstanceMethod<&MutexObject::close>("close"),
                     });
}

MutexObject::MutexObject(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<MutexObject>(info), environment_(Environment::of(info.Env())) {
  const MutexLocation location{optionalString(info, 0), optionalString(info, 1), info[2].As<Napi::String>().Utf16Value(),
                               info[5].IsNumber() ? info[5].As<Napi::Number>().Uint32Value() : 0};
  owner_ = optionalString(info, 3);
  dispatch_ = Napi::Persistent(info[4].As<Napi::Function>());
  mutex_ = ProcessMutex::at(location);
  environment_->add(this);
}

// Collected: nobody can release or await through it any more.
MutexObject::~MutexObject() {
  environment_->remove(this);
  abandonAll();
}

void MutexObject::abandonAll() {
  for (const auto& [hold, pending] : pending_) {
    mutex_->cancel(pending.request, true);
    environment_->forget(hold);
  }
  pending_.clear();
  if (mutex_) mutex_->release(hold_, Release::abandoned);
}

// The part of a record that is known when its mutex is asked for.
std::string_view MutexObject::composeBase(std::string_view purpose) {
  using std::chrono::duration_cast;
  using std::chrono::milliseconds;
  const auto now = duration_cast<milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  char digits[20];
  draft_ = owner_;
  draft_ += ",\"since\":";
  draft_.append(digits, static_cast<size_t>(std::to_chars(digits, digits + sizeof digits, now).ptr - digits));
  if (!purpose.empty()) {
    draft_ += ",\"purpose\":";
    draft_ += purpose;
  }
  return draft_ += '}';
}

// The whole record of this object's hold.
std::string_view MutexObject::composeRecord() {
  draft_ = record_;
  draft_.pop_back();
  if (collected_) draft_ += ",\"collected\":true";
  if (!progress_.empty()) {
    draft_ += ",\"progress\":";
    draft_ += progress_;
  }
  return draft_ += '}';
}

void MutexObject::begin(Hold hold, const Acquired& acquired) {
  hold_ = hold;
  acquired_ = acquired;
  record_.swap(draft_);
  progress_.clear();
  collected_ = false;
}

Napi::Value MutexObject::describe(Hold hold, const Acquired& acquired, Clock::duration waited) {
  Napi::Object grant = Napi::Object::New(Env());
  grant.Set("hold", toNumber(Env(), hold));
  grant.Set("waitedMs", std::chrono::duration<double, std::milli>(waited).count());
  grant.Set("abandoned", acquired.abandoned);
  if (!acquired.previousOwner.empty()) grant.Set("previousOwner", acquired.previousOwner);
  if (acquired.unrecorded) grant.Set("unrecorded", toError(Env(), mutex_->recordFailure()).Value());
  return grant;
}

Napi::Value MutexObject::tryAcquire(const Napi::CallbackInfo& info) {
  const Hold hold = nextHold();
  Acquired acquired;
  Failure failure;
  switch (mutex_->tryAcquire(hold, composeBase(optionalString(info, 0)), acquired, failure)) {
    case LockResult::acquired:
      begin(hold, acquired);
      if (acquired.abandoned || acquired.unrecorded) return describe(hold, acquired, {});
      return toNumber(info.Env(), hold);
    case LockResult::busy: return toNumber(info.Env(), 0);
    case LockResult::failed: break;
  }
  toError(info.Env(), failure).ThrowAsJavaScriptException();
  return info.Env().Undefined();
}

Hold MutexObject::addPending(const Napi::CallbackInfo& info, const std::shared_ptr<Request>& request) {
  // Into the table first and then into the line, because it may be settled before enqueue() returns.
  Pending& pending = pending_[request->hold];
  pending.request = request;
  pending.purpose = optionalString(info, 0);
  pending.since = Clock::now();
  if (info.Length() > 2) {
    pending.lock = Napi::Persistent(info[1].As<Napi::Object>());
    pending.resolve = Napi::Persistent(info[2].As<Napi::Function>());
  }
  mutex_->enqueue(request);
  return request->hold;
}

Napi::Value MutexObject::enqueue(const Napi::CallbackInfo& info) {
  return toNumber(info.Env(), addPending(info, environment_->addAsync(this)));
}

Napi::Value MutexObject::enqueueSync(const Napi::CallbackInfo& info) {
  return toNumber(info.Env(), addPending(info, std::make_shared<SyncRequest>(nextHold())));
}

MutexObject::Pendings::iterator MutexObject::pendingAt(const Napi::CallbackInfo& info) { return pending_.find(holdOf(info)); }

Request::State MutexObject::deliver(Pending& pending) {
  Request& request = *pending.request;
  const Request::State state = mutex_->deliver(request, composeBase(pending.purpose));
  if (state != Request::State::delivered) return state;
  begin(request.hold, request.acquired);
  pending.waited = Clock::now() - pending.since;
  return state;
}

// The promise is resolved from here, without running JavaScript of ours first. That takes long if it has not run for a
// while, and everybody behind this owner would wait for it, too. It runs (dispatch) after the code that awaits the
// promise.
//
// If JavaScript can't run any more because its worker is being terminated, the owner never learns of the grant. So the
// grant is given back.
Environment::Settled MutexObject::settle(Hold hold, Failure& failure) {
  const auto found = pending_.find(hold);
  if (found == pending_.end()) return Environment::Settled::nothing;
  Pending& pending = found->second;
  if (pending.resolve.IsEmpty()) return Environment::Settled::over;
  switch (deliver(pending)) {
    case Request::State::delivered: break;
    case Request::State::failed:
      failure = pending.request->failure;
      pending_.erase(found);
      environment_->forget(hold);
      dropIfDone();
      return Environment::Settled::over;
    case Request::State::queued:  // woken in vain
    case Request::State::granted:
    case Request::State::ended: return Environment::Settled::nothing;
  }
  const napi_value lock = pending.lock.Value();
  const napi_value resolve = pending.resolve.Value();
  pending.resolve.Reset();
  pending.lock.Reset();
  if (napi_call_function(Env(), Env().Undefined(), resolve, 1, &lock, nullptr) == napi_ok) return Environment::Settled::resolved;
  mutex_->giveBack(hold, acquired_);
  return Environment::Settled::nothing;
}

// The end of a pending acquire that was granted.
Napi::Value MutexObject::takeGrant(Pendings::iterator found) {
  const Hold hold = found->first;
  const Napi::Value grant = describe(hold, found->second.request->acquired, found->second.waited);
  pending_.erase(found);
  environment_->forget(hold);
  dropIfDone();
  return grant;
}

Napi::Value MutexObject::grantOf(const Napi::CallbackInfo& info) {
  const auto found = pendingAt(info);
  return found == pending_.end() ? info.Env().Undefined() : takeGrant(found);
}

Napi::Value MutexObject::waitSync(const Napi::CallbackInfo& info) {
  const auto found = pendingAt(info);
  if (found == pending_.end()) return info.Env().Undefined();
  const auto limit = std::chrono::microseconds(static_cast<int64_t>(info[1].As<Napi::Number>().DoubleValue() * 1000));
  static_cast<SyncRequest&>(*found->second.request).waitFor(limit);
  switch (deliver(found->second)) {
    case Request::State::delivered: return takeGrant(found);
    case Request::State::failed: {
      const Failure failure = found->second.request->failure;
      pending_.erase(found);
      toError(info.Env(), failure).ThrowAsJavaScriptException();
      break;
    }
    case Request::State::queued:  // woken in vain, or not at all
    case Request::State::granted:
    case Request::State::ended: break;
  }
  return info.Env().Undefined();
}

Napi::Value MutexObject::cancel(const Napi::CallbackInfo& info) {
  const auto found = pendingAt(info);
  if (found == pending_.end()) return Napi::Boolean::New(info.Env(), false);
  const Hold hold = found->first;
  const bool calledOff = mutex_->cancel(found->second.request, info[1].As<Napi::Boolean>().Value());
  if (calledOff) {
    pending_.erase(found);
    environment_->forget(hold);
  }
  return Napi::Boolean::New(info.Env(), calledOff);
}

void MutexObject::release(const Napi::CallbackInfo& info) {
  if (!mutex_) return;
  mutex_->release(holdOf(info), Release::clean);
  dropIfDone();
}

void MutexObject::giveBack(const Napi::CallbackInfo& info) {
  if (!mutex_ || holdOf(info) != hold_) return;
  mutex_->giveBack(hold_, acquired_);
  dropIfDone();
}

void MutexObject::close(const Napi::CallbackInfo&) {
  closed_ = true;
  dropIfDone();
}

void MutexObject::dropIfDone() {
  if (closed_ && mutex_ && pending_.empty() && !mutex_->owns(hold_)) mutex_.reset();
}

void MutexObject::report(const Napi::CallbackInfo& info) {
  if (!mutex_ || holdOf(info) != hold_) return;
  progress_ = optionalString(info, 1);
  mutex_->report(hold_, composeRecord());
}

void MutexObject::noteCollected(const Napi::CallbackInfo& info) {
  if (!mutex_ || holdOf(info) != hold_) return;
  collected_ = true;
  mutex_->report(hold_, composeRecord());
}

Napi::Value MutexObject::isLost(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), mutex_ && mutex_->isLost(holdOf(info)));
}

void MutexObject::keepYoung(const Napi::CallbackInfo& info) {
  if (!mutex_) return;
  if (holdOf(info) == hold_) mutex_->keepYoung(hold_, composeRecord());
  else if (pendingAt(info) != pending_.end()) mutex_->keepWaitUseful();
}

Napi::Value MutexObject::isTakenInThisThread(const Napi::CallbackInfo& info) {
  bool taken = false;
  for (const Environment::Client* const object : environment_->objects()) taken = taken || object->takes(*mutex_);
  return Napi::Boolean::New(info.Env(), taken);
}

bool MutexObject::takes(const ProcessMutex& mutex) const {
  return mutex_.get() == &mutex && (!pending_.empty() || mutex_->owns(hold_));
}

Napi::Value MutexObject::query(const Napi::CallbackInfo& info) {
  MutexSnapshot snapshot;
  Failure failure;
  if (!mutex_->snapshot(info[0].As<Napi::Boolean>().Value(), snapshot, failure)) {
    toError(info.Env(), failure).ThrowAsJavaScriptException();
    return info.Env().Undefined();
  }
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("held", snapshot.held);
  result.Set("recordIsOwners", snapshot.recordIsOwners);
  result.Set("record", snapshot.record);
  result.Set("kernelPid", Napi::Number::New(info.Env(), static_cast<double>(snapshot.kernelPid)));
  return result;
}

}  // namespace os_mutex
