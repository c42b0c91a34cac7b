#include "preallocate_task.h"

#include <utility>

#include "preallocate.h"

namespace os_mutex {
namespace {

const char* nameOf(Preallocation outcome) {
  switch (outcome) {
    case Preallocation::done: return "done";
    case Preallocation::noRoom: return "noRoom";
    case Preallocation::tooLarge: return "tooLarge";
    default: return "unsupported";
  }
}

// Created and deleted on the environment's thread. Only Execute runs elsewhere, and it uses nothing but this object. An
// environment that ends waits for it (as Node does for all work in its pool), and then reports the outcome to nobody.
class PreallocateTask final : public Napi::AsyncWorker {
 public:
  PreallocateTask(Napi::Env env, std::string path, uint64_t bytes)
      : Napi::AsyncWorker(env, "os-mutex:preallocate"), deferred_(env), path_(std::move(path)), bytes_(bytes) {}

  Napi::Promise promise() const { return deferred_.Promise(); }

 private:
  void Execute() override { outcome_ = preallocate(path_, bytes_); }
  void OnOK() override { deferred_.Resolve(Napi::String::New(Env(), nameOf(outcome_))); }

  const Napi::Promise::Deferred deferred_;
  const std::string path_;
  const uint64_t bytes_;
  Preallocation outcome_ = Preallocation::unsupported;
};

}  // namespace

Napi::Value preallocateFile(const Napi::CallbackInfo& info) {
  const std::string path = info[0].As<Napi::String>().Utf8Value();
  const int64_t bytes = info[1].As<Napi::Number>().Int64Value();
  auto* const task = new PreallocateTask(info.Env(), path, static_cast<uint64_t>(bytes));  // deletes itself when it is done
  const Napi::Promise promise = task->promise();
  task->Queue();
  return promise;
}

}  // namespace os_mutex
