#include "environment.h"

#include "mutex_object.h"

namespace os_mutex {
namespace {

class AsyncRequest final : public Request {
 public:
  AsyncRequest(std::shared_ptr<Mailbox> mailbox, RequestId id) : mailbox_(std::move(mailbox)), id_(id) {}
  void wake() override { mailbox_->post(id_); }

 private:
  const std::shared_ptr<Mailbox> mailbox_;
  const RequestId id_;
};

}  // namespace

void Mailbox::open(napi_threadsafe_function doorbell) { doorbell_ = doorbell; }

void Mailbox::post(RequestId id) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (doorbell_ == nullptr) return;
  news_.push_back(id);
  if (news_.size() == 1) napi_call_threadsafe_function(doorbell_, nullptr, napi_tsfn_nonblocking);
}

std::vector<RequestId> Mailbox::collect() {
  std::lock_guard<std::mutex> lock(mutex_);
  return std::move(news_);
}

void Mailbox::close() {
  std::lock_guard<std::mutex> lock(mutex_);
  doorbell_ = nullptr;
  news_.clear();
}

void Environment::start(Napi::Env env) {
  auto self = std::make_shared<Environment>();
  self->env_ = env;
  napi_create_threadsafe_function(env, nullptr, nullptr, Napi::String::New(env, "os-mutex"), 0, 1, nullptr, nullptr,
                                  self.get(), &Environment::onDoorbell, &self->doorbell_);
  napi_unref_threadsafe_function(env, self->doorbell_);
  self->mailbox_->open(self->doorbell_);
  env.SetInstanceData(std::make_unique<std::shared_ptr<Environment>>(self).release());  // Node-API owns it from here
  // Hooks run last in, first out: this one before the doorbell's own, which stops it from working.
  napi_add_env_cleanup_hook(env, &Environment::onTeardown, self.get());
}

std::shared_ptr<Environment> Environment::of(Napi::Env env) { return *env.GetInstanceData<std::shared_ptr<Environment>>(); }

RequestId Environment::addAsync(MutexObject* object, std::shared_ptr<Request>& request) {
  const RequestId id = ++lastId_;
  request = std::make_shared<AsyncRequest>(mailbox_, id);
  if (pending_.empty()) napi_ref_threadsafe_function(env_, doorbell_);
  pending_[id] = object;
  return id;
}

void Environment::forget(RequestId id) {
  if (pending_.erase(id) != 0 && pending_.empty()) napi_unref_threadsafe_function(env_, doorbell_);
}

void Environment::onDoorbell(napi_env env, napi_value, void* context, void*) {
  // No env: the environment is being torn down, and onTeardown has settled everything.
  if (env != nullptr) static_cast<Environment*>(context)->deliver(Napi::Env(env));
}

// JavaScript takes the outcome itself (MutexObject::take): where it can't run any more, since its worker is being ended, a
// grant stays undelivered and onTeardown takes it back.
void Environment::deliver(Napi::Env env) {
  for (const RequestId id : mailbox_->collect()) {
    const auto found = pending_.find(id);
    if (found == pending_.end()) continue;  // called off after it was posted
    Napi::HandleScope scope(env);
    const napi_value argument = Napi::Number::New(env, id);
    const napi_value dispatch = found->second->dispatch();
    // Not by Napi::Function::Call(), which would abort where no exception can be passed on.
    if (napi_call_function(env, env.Undefined(), dispatch, 1, &argument, nullptr) == napi_ok) continue;
    // A listener that throws is the JavaScript side's fault; the others must still hear.
    napi_value exception;
    bool thrown = false;
    if (napi_is_exception_pending(env, &thrown) == napi_ok && thrown &&
        napi_get_and_clear_last_exception(env, &exception) == napi_ok) {
      napi_fatal_exception(env, exception);
    }
  }
}

// The worker or process ends: its waits are called off, what it holds is freed at once, as after a crash.
void Environment::onTeardown(void* context) {
  Environment& self = *static_cast<Environment*>(context);
  self.mailbox_->close();
  for (MutexObject* const object : self.objects_) object->abandonAll();
  napi_release_threadsafe_function(self.doorbell_, napi_tsfn_abort);
}

}  // namespace os_mutex
