// Does what the sanitizers exist to find: a run that says nothing of these says nothing of the addon.
#include <pthread.h>

#include <climits>
#include <cstdlib>
#include <cstring>

namespace {

int shared = 0;

void* raise(void*) {
  shared++;
  return nullptr;
}

void race() {
  pthread_t thread;
  pthread_create(&thread, nullptr, &raise, nullptr);
  shared++;
  pthread_join(thread, nullptr);
}

void overflow(int size) {
  char* const bytes = static_cast<char*>(std::malloc(static_cast<size_t>(size)));
  volatile char* const behind = bytes + size;
  *behind = 1;
  std::free(bytes);
}

void leak() {
  void* volatile lost = std::malloc(100);
  lost = nullptr;
}

void wrap(int by) {
  volatile int sum = INT_MAX;
  sum = sum + by;
}

}  // namespace

int main(int count, char** arguments) {
  const char* const fault = count > 1 ? arguments[1] : "";
  if (std::strcmp(fault, "race") == 0) race();
  if (std::strcmp(fault, "overflow") == 0) overflow(count * 8);
  if (std::strcmp(fault, "leak") == 0) leak();
  if (std::strcmp(fault, "wrap") == 0) wrap(count);
  return 0;
}
