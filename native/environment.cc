#include "environment.h"

#include "failure_error.h"

namespace os_mutex {
namespace {

class AsyncRequest final : public Request {
 public:
  AsyncRequest(Hold hold, std::shared_ptr<Doorbell> bell) : Request(hold), bell_(std::move(bell)) {}
  void wake() override { bell_->ring(hold); }

 private:
  const std::shared_ptr<Doorbell> bell_;
};

}  // namespace

void Doorbell::open(napi_threadsafe_function function) {
  Guard guard(mutex_);
  function_ = function;
}

void Doorbell::ring(Hold hold) {
  Guard guard(mutex_);
  if (function_ == nullptr) return;
  // NOLINTNEXTLINE(performance-no-int-to-ptr): the number itself is passed, and nobody dereferences it.
  napi_call_threadsafe_function(function_, reinterpret_cast<void*>(static_cast<uintptr_t>(hold)), napi_tsfn_nonblocking);
}

void Doorbell::close() {
  Guard guard(mutex_);
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
  // Cleanup hooks run last in, first out: this one runs before the threadsafe function's own, which disables it.
  napi_add_env_cleanup_hook(env, &Environment::onTeardown, self.get());
}

std::shared_ptr<Environment> Environment::of(Napi::Env env) { return *env.GetInstanceData<std::shared_ptr<Environment>>(); }

std::shared_ptr<Request> Environment::addAsync(Client* object) {
  auto request = std::make_shared<AsyncRequest>(nextHold(), bell_);
  if (pending_.empty()) napi_ref_threadsafe_function(env_, function_);
  pending_[request->hold] = object;
  return request;
}

void Environment::forget(Hold hold) {
  if (pending_.erase(hold) != 0 && pending_.empty()) napi_unref_threadsafe_function(env_, function_);
}

void Environment::onDoorbell(napi_env env, napi_value, void* context, void* hold) {
  // No env: the environment is being torn down, and onTeardown has settled everything.
  if (env == nullptr) return;
  static_cast<Environment*>(context)->settle(Napi::Env(env), static_cast<Hold>(reinterpret_cast<uintptr_t>(hold)));
}

// 1. The first ring resolves the promise of a grant, and rings again.
// 2. The code that awaits the promise runs.
// 3. The second ring calls dispatch.
void Environment::settle(Napi::Env env, Hold hold) {
  const auto found = pending_.find(hold);
  if (found == pending_.end()) return;  // settled or called off since the ring
  Client& object = *found->second;
  Napi::HandleScope scope(env);
  Failure failure;
  switch (object.settle(hold, failure)) {
    case Settled::nothing: return;
    case Settled::resolved: return bell_->ring(hold);
    case Settled::over: break;
  }
  napi_value arguments[] = {Napi::Number::New(env, static_cast<double>(hold)), env.Undefined()};
  if (failure.kind != FailureKind::none) arguments[1] = toError(env, failure).Value();
  // Not Napi::Function::Call(), which aborts when there is nobody to pass an exception to.
  if (napi_call_function(env, env.Undefined(), object.dispatch(), 2, arguments, nullptr) == napi_ok) return;
  // What a listener throws is an uncaught exception of JavaScript.
  napi_value exception;
  bool thrown = false;
  if (napi_is_exception_pending(env, &thrown) == napi_ok && thrown &&
      napi_get_and_clear_last_exception(env, &exception) == napi_ok) {
    napi_fatal_exception(env, exception);
  }
}

// Runs when the worker or process ends: cancels its waits, and frees what it holds at once, as a crash would.
void Environment::onTeardown(void* context) {
  Environment& self = *static_cast<Environment*>(context);
  self.bell_->close();
  for (Client* const object : self.objects_) object->abandonAll();
  napi_release_threadsafe_function(self.function_, napi_tsfn_abort);
}

}  // namespace os_mutex
