#include "mutex_object.h"

#include <charconv>
#include <chrono>
#include <condition_variable>
#include <utility>

namespace os_mutex {
namespace {

constexpr RequestId kSyncIds = 0x80000000u;  // set in the ids of synchronous requests, which the environment does not know

class SyncRequest final : public Request {
 public:
  void wake() override {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      woken_ = true;
    }
    condition_.notify_one();
  }

  void waitFor(std::chrono::microseconds limit) {
    std::unique_lock<std::mutex> lock(mutex_);
    condition_.wait_for(lock, limit, [this] { return std::exchange(woken_, false); });
  }

 private:
  std::mutex mutex_;
  std::condition_variable condition_;
  bool woken_ = false;
};

const char* nameOf(FailureKind kind) {
  switch (kind) {
    case FailureKind::notRegularFile: return "notRegularFile";
    case FailureKind::hardLinked: return "hardLinked";
    case FailureKind::foreignDirectory: return "foreignDirectory";
    case FailureKind::system:
    case FailureKind::none: break;
  }
  return "system";
}

Napi::Error toError(Napi::Env env, const Failure& failure) {
  Napi::Error error = Napi::Error::New(env, std::string(failure.call) + " failed on " + failure.path);
  error.Set("kind", nameOf(failure.kind));
  error.Set("errno", Napi::Number::New(env, failure.error));
  error.Set("syscall", failure.call);
  error.Set("path", failure.path);
  return error;
}

std::string optionalString(const Napi::CallbackInfo& info, size_t index) {
  return info[index].IsString() ? info[index].As<Napi::String>().Utf8Value() : std::string();
}

Hold holdOf(const Napi::CallbackInfo& info) {
  return static_cast<Hold>(info[0].As<Napi::Number>().Int64Value()) / 4;
}

}  // namespace

Napi::Function MutexObject::define(Napi::Env env) {
  return DefineClass(env, "NativeMutex",
                     {
                         InstanceMethod<&MutexObject::tryAcquire>("tryAcquire"),
                         InstanceMethod<&MutexObject::enqueue>("enqueue"),
                         InstanceMethod<&MutexObject::enqueueSync>("enqueueSync"),
                         InstanceMethod<&MutexObject::waitSync>("waitSync"),
                         InstanceMethod<&MutexObject::tokenOf>("tokenOf"),
                         InstanceMethod<&MutexObject::handTo>("handTo"),
                         InstanceMethod<&MutexObject::take>("take"),
                         InstanceMethod<&MutexObject::waitedMs>("waitedMs"),
                         InstanceMethod<&MutexObject::cancel>("cancel"),
                         InstanceMethod<&MutexObject::release>("release"),
                         InstanceMethod<&MutexObject::abandon>("abandon"),
                         InstanceMethod<&MutexObject::giveBack>("giveBack"),
                         InstanceMethod<&MutexObject::report>("report"),
                         InstanceMethod<&MutexObject::recordFailure>("recordFailure"),
                         InstanceMethod<&MutexObject::previousOwner>("previousOwner"),
                         InstanceMethod<&MutexObject::isTakenInThisThread>("isTakenInThisThread"),
                         InstanceMethod<&MutexObject::query>("query"),
                         InstanceMethod<&MutexObject::close>("close"),
                     });
}

MutexObject::MutexObject(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<MutexObject>(info), environment_(Environment::of(info.Env())) {
  const MutexLocation location{optionalString(info, 0), optionalString(info, 1), info[2].As<Napi::String>().Utf16Value()};
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
  for (const auto& [id, pending] : pending_) {
    mutex_->cancel(pending.request, true);
    environment_->forget(id);
  }
  pending_.clear();
  if (mutex_) mutex_->release(hold_, Release::abandoned);
}

std::string_view MutexObject::compose(std::string_view purpose) {
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

double MutexObject::acquire(Hold hold, Acquired& acquired) {
  hold_ = hold;
  record_.swap(draft_);
  previousOwner_ = std::move(acquired.previousOwner);
  return static_cast<double>(hold * 4 + (acquired.abandoned ? 1 : 0) + (acquired.unrecorded ? 2 : 0));
}

Napi::Value MutexObject::tryAcquire(const Napi::CallbackInfo& info) {
  Hold hold = 0;
  Acquired acquired;
  Failure failure;
  switch (mutex_->tryAcquire(compose(optionalString(info, 0)), hold, acquired, failure)) {
    case LockResult::acquired: return Napi::Number::New(info.Env(), acquire(hold, acquired));
    case LockResult::busy: return Napi::Number::New(info.Env(), 0);
    case LockResult::failed: break;
  }
  toError(info.Env(), failure).ThrowAsJavaScriptException();
  return info.Env().Undefined();
}

RequestId MutexObject::addPending(const Napi::CallbackInfo& info, RequestId id, const std::shared_ptr<Request>& request) {
  // In the table before in the line: it may be settled before enqueue() returns.
  Pending& pending = pending_[id];
  pending.request = request;
  pending.purpose = optionalString(info, 0);
  pending.since = Clock::now();
  mutex_->enqueue(request);
  return id;
}

Napi::Value MutexObject::enqueue(const Napi::CallbackInfo& info) {
  std::shared_ptr<Request> request;
  const RequestId id = environment_->addAsync(this, request);
  return Napi::Number::New(info.Env(), addPending(info, id, request));
}

Napi::Value MutexObject::enqueueSync(const Napi::CallbackInfo& info) {
  const RequestId id = kSyncIds | ++lastSyncId_;
  return Napi::Number::New(info.Env(), addPending(info, id, std::make_shared<SyncRequest>()));
}

std::map<RequestId, MutexObject::Pending>::iterator MutexObject::pendingAt(const Napi::CallbackInfo& info) {
  return pending_.find(info[0].As<Napi::Number>().Uint32Value());
}

void MutexObject::waitSync(const Napi::CallbackInfo& info) {
  const auto found = pendingAt(info);
  const auto limit = std::chrono::microseconds(static_cast<int64_t>(info[1].As<Napi::Number>().DoubleValue() * 1000));
  if (found != pending_.end()) static_cast<SyncRequest&>(*found->second.request).waitFor(limit);
}

bool MutexObject::settle(RequestId id) {
  const auto found = pending_.find(id);
  if (found == pending_.end()) return false;
  Pending& pending = found->second;
  Request& request = *pending.request;
  if (pending.token != 0 || pending.resolve.IsEmpty()) return false;
  if (!mutex_->deliverPlain(request, compose(pending.purpose))) return false;
  const double token = acquire(request.hold, request.acquired);
  pending.deliveredAt = Clock::now();
  const napi_value lock = pending.lock.Value();
  if (napi_call_function(Env(), Env().Undefined(), pending.resolve.Value(), 1, &lock, nullptr) == napi_ok) {
    pending.token = token;
    return true;
  }
  // JavaScript can't run any more, and its owner will never hear of it. Nothing was to tell of it before, so this leaves nothing, too.
  mutex_->release(request.hold, Release::clean);
  return false;
}

void MutexObject::handTo(const Napi::CallbackInfo& info) {
  const auto found = pendingAt(info);
  if (found == pending_.end()) return;
  found->second.resolve = Napi::Persistent(info[1].As<Napi::Function>());
  found->second.lock = Napi::Persistent(info[2].As<Napi::Object>());
}

Napi::Value MutexObject::tokenOf(const Napi::CallbackInfo& info) {
  const auto found = pendingAt(info);
  const Hold hold = found == pending_.end() ? 0 : found->second.request->hold;
  return Napi::Number::New(info.Env(), static_cast<double>(hold * 4));
}

Napi::Value MutexObject::waitedMs(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), std::chrono::duration<double, std::milli>(waited_).count());
}

Napi::Value MutexObject::take(const Napi::CallbackInfo& info) {
  const auto found = pendingAt(info);
  if (found == pending_.end()) return Napi::Number::New(info.Env(), 0);
  Pending& pending = found->second;
  Request& request = *pending.request;
  if (pending.token == 0) {
    switch (mutex_->deliver(request, compose(pending.purpose))) {
      case Request::State::delivered:
        pending.token = acquire(request.hold, request.acquired);
        pending.deliveredAt = Clock::now();
        break;
      case Request::State::failed: toError(info.Env(), request.failure).ThrowAsJavaScriptException(); break;
      case Request::State::queued:  // woken in vain
      case Request::State::granted:
      case Request::State::ended: return Napi::Number::New(info.Env(), 0);
    }
  }
  const double token = pending.token;
  waited_ = pending.deliveredAt - pending.since;
  environment_->forget(found->first);
  pending_.erase(found);
  dropIfDone();
  return Napi::Number::New(info.Env(), token);
}

Napi::Value MutexObject::cancel(const Napi::CallbackInfo& info) {
  const auto found = pendingAt(info);
  if (found == pending_.end()) return Napi::Boolean::New(info.Env(), false);
  const RequestId id = found->first;
  const bool calledOff = mutex_->cancel(found->second.request, info[1].As<Napi::Boolean>().Value());
  if (calledOff) {
    pending_.erase(found);
    environment_->forget(id);
  }
  return Napi::Boolean::New(info.Env(), calledOff);
}

void MutexObject::release(const Napi::CallbackInfo& info) {
  if (!mutex_) return;
  mutex_->release(holdOf(info), Release::clean);
  dropIfDone();
}

void MutexObject::abandon(const Napi::CallbackInfo& info) {
  if (!mutex_) return;
  mutex_->release(holdOf(info), Release::abandoned);
  dropIfDone();
}

// As if it had never been taken: the next owner finds the mutex abandoned, by the owner that had abandoned it.
void MutexObject::giveBack(const Napi::CallbackInfo& info) {
  if (!mutex_) return;
  mutex_->report(holdOf(info), previousOwner_);
  abandon(info);
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
  std::string_view withoutBrace = record_;
  withoutBrace.remove_suffix(1);
  draft_ = withoutBrace;
  draft_ += ",\"progress\":";
  draft_ += optionalString(info, 1);
  mutex_->report(hold_, draft_ += '}');
}

Napi::Value MutexObject::recordFailure(const Napi::CallbackInfo& info) {
  return toError(info.Env(), mutex_->recordFailure()).Value();
}

Napi::Value MutexObject::previousOwner(const Napi::CallbackInfo& info) {
  if (previousOwner_.empty()) return info.Env().Undefined();
  return Napi::String::New(info.Env(), previousOwner_);
}

Napi::Value MutexObject::isTakenInThisThread(const Napi::CallbackInfo& info) {
  for (const MutexObject* const object : environment_->objects()) {
    if (object->mutex_ != mutex_) continue;
    const bool taken = !object->pending_.empty() || mutex_->owns(object->hold_);
    if (taken) return Napi::Boolean::New(info.Env(), true);
  }
  return Napi::Boolean::New(info.Env(), false);
}

Napi::Value MutexObject::query(const Napi::CallbackInfo& info) {
  MutexSnapshot snapshot;
  Failure failure;
  if (!mutex_->snapshot(snapshot, failure)) {
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
