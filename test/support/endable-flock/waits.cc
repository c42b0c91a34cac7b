// Waits for flocks that are granted and ended, by the addon's own FlockWaiter and EndableFlock: waits SCENARIO FILE.
// Prints what it saw and exits with 0, or says what was wrong and exits with 1. endable-flock.ts compiles it for each
// kind of wait.
#include "waits.h"

namespace {

void releaseByCall() {
  const Descriptor owner = openFile(), file = openFile();
  CHECK(tryLock(owner));
  Waiter waiter(file);
  waiter.letIn();
  CHECK(waiter.isBlocked());
  std::thread([&owner] { unlock(owner); }).join();
  granted(waiter, file);
}

void releaseByClose() {
  Descriptor owner = openFile();
  Descriptor copy(::dup(owner.get()));
  const Descriptor file = openFile();
  CHECK(tryLock(owner));
  Waiter waiter(file);
  waiter.letIn();
  CHECK(waiter.isBlocked());
  owner.reset();
  CHECK(waiter.isBlocked());
  copy.reset();
  granted(waiter, file);
}

void releaseByDeath() {
  int lines[2];
  CHECK(::pipe(lines) == 0);
  const pid_t owner = ::fork();
  if (owner == 0) {
    const Descriptor file = openFile();
    CHECK(tryLock(file));
    CHECK(::write(lines[1], "!", 1) == 1);
    for (;;) ::pause();
  }
  char byte;
  CHECK(::read(lines[0], &byte, 1) == 1);
  const Descriptor file = openFile();
  Waiter waiter(file);
  waiter.letIn();
  CHECK(waiter.isBlocked());
  ::kill(owner, SIGKILL);
  ::waitpid(owner, nullptr, 0);
  granted(waiter, file);
}

// The last descriptor of the owner's is in a child. The stand-in can't see its end and posts no event, as macOS posts
// none for some other unlocks: the waiter has to look again unasked.
void releaseUnseen() {
  Descriptor owner = openFile();
  CHECK(tryLock(owner));
  const pid_t child = ::fork();
  while (child == 0) ::pause();
  owner.reset();
  const Descriptor file = openFile();
  Waiter waiter(file);
  waiter.letIn();
  CHECK(waiter.isBlocked());
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  if (!waiter.comesBack()) CHECK(waiter.comesBack());
  granted(waiter, file);
}

void endBefore() {
  const Descriptor owner = openFile(), file = openFile();
  CHECK(tryLock(owner));
  Waiter waiter(file);
  std::thread ending([&waiter] { waiter.end(); });
  std::this_thread::sleep_for(kStillBlocked);
  waiter.letIn();
  ending.join();
  unlock(owner);
  CHECK(isFree());
}

void endInside() {
  const Descriptor owner = openFile(), file = openFile();
  CHECK(tryLock(owner));
  Waiter waiter(file);
  waiter.letIn();
  CHECK(waiter.isBlocked());
  waiter.end();
  CHECK(waiter.error() != 0);
  unlock(owner);
  CHECK(isFree());
}

void endAfter() {
  const Descriptor file = openFile();
  Waiter waiter(file);
  waiter.holdBack();
  waiter.letIn();
  CHECK(waiter.comesBack());
  std::thread ending([&waiter] { waiter.end(); });
  std::this_thread::sleep_for(kStillBlocked);
  waiter.letOut();
  ending.join();
  CHECK(waiter.error() == 0);
  CHECK(!isFree());
  unlock(file);
  CHECK(isFree());
}

class Client : public FlockWaiter::Client {
 public:
  void beforeFlock(const FlockWaiter&) override {}
  void flockEnded(int) override {}
};

// Two descriptions take turns: one is held, the other waits, and its grant races with the end of its wait. Whoever has
// the lock then, the other takes it after him.
void storm() {
  const char* const asked = std::getenv("OS_MUTEX_TEST_ROUNDS");
  const int rounds = asked == nullptr ? 1000 : std::atoi(asked);
  Client client;
  FlockWaiter waiter(client);
  Descriptor files[2] = {openFile(), openFile()};
  int grants = 0;
  int ends = 0;
  unsigned random = 1;
  std::atomic<int> unlockRound{-1};
  std::atomic<int> spins{0};
  std::atomic<int> toUnlock{-1};
  std::atomic<bool> unlocked{true};
  std::thread other([&] {
    for (int round = 0; round < rounds; round++) {
      while (unlockRound.load() != round) std::this_thread::yield();
      for (volatile int i = 0; i < spins.load(); i = i + 1) {
      }
      CHECK(::flock(toUnlock.load(), LOCK_UN) == 0);
      unlocked.store(true);
    }
  });
  for (int round = 0; round < rounds; round++) {
    const Descriptor& owner = files[round % 2];
    const Descriptor& file = files[(round + 1) % 2];
    CHECK(tryLock(owner));
    const auto from = Clock::now();
    CHECK(waiter.start(file.get()) == 0);
    random = random * 1103515245 + 12345;
    const bool waitsOnly = random >> 24 < 64;
    spins.store(static_cast<int>(random >> 16 & 2047));
    toUnlock.store(owner.get());
    unlocked.store(false);
    unlockRound.store(round);
    random = random * 1103515245 + 12345;
    for (volatile unsigned i = 0; i < (random >> 16 & 2047); i = i + 1) {
    }
    if (waitsOnly) {
      while (!waiter.hasEnded() && Clock::now() - from < kAtOnce) std::this_thread::yield();
      CHECK(waiter.hasEnded());
    }
    if (waiter.cancel()) {
      ends++;
      ::flock(file.get(), LOCK_UN);
    } else {
      grants++;
      CHECK(waiter.finish() == 0);
      CHECK(!tryLock(owner) || !"the lock was granted to somebody who has it not");
      unlock(file);
    }
    while (!unlocked.load()) std::this_thread::yield();
    CHECK(Clock::now() - from < kAtOnce);
  }
  other.join();
  CHECK(isFree());
  CHECK(grants > rounds / 10 && ends > rounds / 10);
  std::printf("%d grants, %d ends\n", grants, ends);
}

// Four waiters, and nobody ends their waits: each unlock must reach one of them.
void handOver() {
  constexpr int kEach = 5000;
  std::atomic<int> owners{0};
  std::atomic<long> longest{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; i++) {
    threads.emplace_back([&] {
      const Descriptor file = openFile();
      auto flock = EndableFlock::make();
      const char* call = "";
      CHECK(flock->prepare(call) == 0);
      int ignored;
      pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &ignored);
      for (int round = 0; round < kEach; round++) {
        const auto from = Clock::now();
        CHECK(flock->lock(file.get()) == 0);
        CHECK(++owners == 1);
        const long waited = (Clock::now() - from) / milliseconds(1);
        if (waited > longest.load()) longest.store(waited);
        owners--;
        unlock(file);
        if (round % 8 == 0) std::this_thread::yield();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::printf("longest wait %ld ms\n", longest.load());
}

// Nothing is left: no descriptor, no thread; nothing is inherited; no signal's action is another one.
void leftovers() {
  struct sigaction actions[32] = {};
  for (int signal = 1; signal < 32; signal++) ::sigaction(signal, nullptr, &actions[signal]);
  Client client;
  const Descriptor owner = openFile(), file = openFile();
  CHECK(tryLock(owner));
  const int descriptors = openDescriptors();
  const int inherited = inheritedDescriptors();
  {
    FlockWaiter waiter(client);
    for (int round = 0; round < 100; round++) {
      CHECK(waiter.start(file.get()) == 0);
      if (round % 10 == 0) std::this_thread::sleep_for(milliseconds(5));
      CHECK(inheritedDescriptors() == inherited);
      CHECK(waiter.cancel());
    }
    // The thread that stays warm may keep one, for 5 s.
    CHECK(openDescriptors() <= descriptors + 1);
    unlock(owner);
    CHECK(waiter.start(file.get()) == 0);
    while (!waiter.hasEnded()) std::this_thread::yield();
    CHECK(waiter.finish() == 0);
    unlock(file);
    const auto until = Clock::now() + milliseconds(15000);
    while (openDescriptors() != descriptors && Clock::now() < until) std::this_thread::sleep_for(milliseconds(50));
    CHECK(openDescriptors() == descriptors);
  }
  for (int signal = 1; signal < 32; signal++) {
    struct sigaction now = {};
    ::sigaction(signal, nullptr, &now);
    CHECK(now.sa_handler == actions[signal].sa_handler && now.sa_flags == actions[signal].sa_flags);
  }
}

// A process without a free descriptor: the wait can't begin, says which call failed, and can begin when there is one
// again.
void noDescriptors() {
  Client client;
  FlockWaiter waiter(client);
  const Descriptor owner = openFile(), file = openFile();
  CHECK(tryLock(owner));
  rlimit before;
  CHECK(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  std::vector<Descriptor> fillers;
  rlimit low = before;
  low.rlim_cur = 64;
  CHECK(::setrlimit(RLIMIT_NOFILE, &low) == 0);
  for (;;) {
    Descriptor filler(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (!filler) break;
    fillers.push_back(std::move(filler));
  }
  const int error = waiter.start(file.get());
  std::printf("%s: %s\n", waiter.failedCall(), error == EMFILE ? "EMFILE" : std::strerror(error));
  if (error == 0) CHECK(waiter.cancel());
  fillers.clear();
  CHECK(waiter.start(file.get()) == 0);
  // Nor may the end of a wait need one.
  for (;;) {
    Descriptor filler(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (!filler) break;
    fillers.push_back(std::move(filler));
  }
  std::this_thread::sleep_for(kStillBlocked);
  CHECK(waiter.cancel());
  fillers.clear();
  unlock(owner);
  CHECK(isFree());
}

struct Scenario {
  const char* name;
  void (*run)();
};
const Scenario scenarios[] = {
    {"release-by-call", releaseByCall},
    {"release-by-close", releaseByClose},
    {"release-by-death", releaseByDeath},
    {"release-unseen", releaseUnseen},
    {"end-before", endBefore},
    {"end-inside", endInside},
    {"end-after", endAfter},
    {"storm", storm},
    {"hand-over", handOver},
    {"leftovers", leftovers},
    {"no-descriptors", noDescriptors},
};

}  // namespace

int main(int count, char** arguments) {
  if (count != 3) return 2;
  path = arguments[2];
  ::alarm(120);
  for (const Scenario& scenario : scenarios) {
    if (std::strcmp(scenario.name, arguments[1]) != 0) continue;
    scenario.run();
    return 0;
  }
  return 2;
}
