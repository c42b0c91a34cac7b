#include "environment.h"

#include "mutex_object.h"

namespace os_mutex {
namespace {

class AsyncRequest final : public Request {
 public:
  AsyncRequest(std::shared_ptr<Doorbell> bell, RequestId id) : bell_(std::move(bell)), id_(id) {}
  void wake() override { bell_->ring(id_); }

 private:
  const std::shared_ptr<Doorbell> bell_;
  const RequestId id_;
};

}  // namespace

void Doorbell::open(napi_threadsafe_function function) { function_ = function; }

void Doorbell::ring(RequestId id) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (function_ == nullptr) return;
  // NOLINTNEXTLINE(performance-no-int-to-ptr): the number itself travels, and nobody looks through it.
  napi_call_threadsafe_function(function_, reinterpret_cast<void*>(static_cast<uintptr_t>(id)), napi_tsfn_nonblocking);
}

void Doorbell::close() {
  std::lock_guard<std::mutex> lock(mutex_);
  function_ = nullptr;
}

void Environment::start(Napi::Env env) {
  auto self = std::make_shared<Environment>();
  self->env_ = env;
  napi_create_threadsafe_function(env, nullptr, nullptr, Napi::String::New(env, "os-mutex"), 0, 1, nullptr, nullptr,
                                  self.get(), &Environment::onDoorbell, &self->function_);
  napi_unref_threadsafe_function(env, self->function_);
  self->bell_->open(self->function_);
  env.SetInstanceData(std::make_unique<std::shared_ptr<Environment>>(self).release());  // Node-API owns it from here
  // Hooks run last in, first out: this one before the doorbell's own, which stops it from working.
  napi_add_env_cleanup_hook(env, &Environment::onTeardown, self.get());
}

std::shared_ptr<Environment> Environment::of(Napi::Env env) { return *env.GetInstanceData<std::shared_ptr<Environment>>(); }

RequestId Environment::addAsync(MutexObject* object, std::shared_ptr<Request>& request) {
  const RequestId id = ++lastId_;
  request = std::make_shared<AsyncRequest>(bell_, id);
  if (pending_.empty()) napi_ref_threadsafe_function(env_, function_);
  pending_[id] = object;
  return id;
}

void Environment::forget(RequestId id) {
  if (pending_.erase(id) != 0 && pending_.empty()) napi_unref_threadsafe_function(env_, function_);
}

void Environment::onDoorbell(napi_env env, napi_value, void* context, void* id) {
  // No env: the environment is being torn down, and onTeardown has settled everything.
  if (env == nullptr) return;
  static_cast<Environment*>(context)->deliver(Napi::Env(env), static_cast<RequestId>(reinterpret_cast<uintptr_t>(id)));
}

// A plain grant goes to its owner from here, without a step of JavaScript, which takes long where it has not run for a while: all who
// wait behind this owner wait for it, too. What JavaScript has to do about it follows when the owner has had its first step.
//
// All else JavaScript takes itself (MutexObject::take): where it can't run any more, since its worker is being ended, a grant
// stays undelivered and onTeardown takes it back.
void Environment::deliver(Napi::Env env, RequestId id) {
  const auto found = pending_.find(id);
  if (found == pending_.end()) return;  // settled or called off since it was rung for
  Napi::HandleScope scope(env);
  if (found->second->settle(id)) return bell_->ring(id);
  const napi_value argument = Napi::Number::New(env, id);
  const napi_value dispatch = found->second->dispatch();
  // Not by Napi::Function::Call(), which would abort where no exception can be passed on.
  if (napi_call_function(env, env.Undefined(), dispatch, 1, &argument, nullptr) == napi_ok) return;
  // A listener that throws is the JavaScript side's fault.
  napi_value exception;
  bool thrown = false;
  if (napi_is_exception_pending(env, &thrown) == napi_ok && thrown &&
      napi_get_and_clear_last_exception(env, &exception) == napi_ok) {
    napi_fatal_exception(env, exception);
  }
}

// The worker or process ends: its waits are called off, what it holds is freed at once, as after a crash.
void Environment::onTeardown(void* context) {
  Environment& self = *static_cast<Environment*>(context);
  self.bell_->close();
  for (MutexObject* const object : self.objects_) object->abandonAll();
  napi_release_threadsafe_function(self.function_, napi_tsfn_abort);
}

}  // namespace os_mutex
