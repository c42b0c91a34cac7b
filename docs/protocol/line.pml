/* One process (Linux): the line in which its JavaScript threads stand, the one thread that waits in the kernel for the
 * first of them, a thread that comes from another mutex and lets this one rest, and a rival process. One step is one
 * access to what two threads share, or one system call. What happens under ProcessMutex::mutex_ is still taken apart,
 * since the waiter's thread never has that lock. */

#ifndef THREADS
#define THREADS 2
#endif
#ifndef ROUNDS
#define ROUNDS 2    /* acquisitions of each thread */
#endif
#ifndef RIVALS
#define RIVALS 1    /* acquisitions of the rival */
#endif
#ifndef VANISHINGS
#define VANISHINGS 1
#endif
#ifndef RESTS
#define RESTS 0     /* times that the mutex is asked to rest */
#endif
#define NONE 255
#define RIVAL 2     /* its description; ours are 0 and 1 */

mtype { queued, granted, delivered, ended };      /* native/process_mutex.h: Request */
mtype { idle, waitingPhase, endedPhase, calledOff };  /* native/posix/flock_waiter.h: FlockWaiter */

/* The kernel's. */
byte named = 0;
byte locked[2] = NONE;         /* by inode: the description that has the lock */

/* ProcessMutex, under its mutex_ */
bool mutex;
chan line = [THREADS] of { byte };
byte owner = NONE;             /* the thread whose acquisition has the lock, delivered or not */
bool waiting;
mtype state[THREADS] = ended;
byte next = NONE;              /* next_, under nextMutex_ */
bool otherMutex;               /* mutex_ of another ProcessMutex */

/* PosixMutex */
byte file[3] = NONE;           /* the inode that a description has open */
byte owned = NONE;             /* files_[0] or files_[1] */
byte waitingFile;
bool looked;                   /* the waiter's thread has looked at its file at the end of this wait */
bool sawNamed;                 /* Wait::fileIsNamed */

/* FlockWaiter */
mtype phase = idle;
byte job = NONE;
bool spawned;
bool expired;
bool alive;                    /* the thread, by the kernel's word: what a join waits for */
bool cancelled;                /* pthread_cancel was called for it */
bool ending;                   /* its lock ending_ */

bool woken[THREADS];           /* its doorbell rings */
bool patient[THREADS];         /* will wait until it is served */
byte over;                     /* threads that have done all their rounds */

inline unlockFile(f) {
  d_step {
    if
    :: file[f] != NONE && locked[file[f]] == f -> locked[file[f]] = NONE
    :: else
    fi
  }
}

/* native/process_mutex.cc: ProcessMutex::nameNext */
inline nameNext() {
  if
  :: nempty(line) -> line?<first>; next = first
  :: empty(line) -> next = NONE
  fi
}

/* native/process_mutex.cc: ProcessMutex::use. With this mutex_ locked, it lets others rest, and only tries their locks. */
#ifdef MUTANT_REST_LOCKS
#define use() !otherMutex
#else
#define use() true
#endif

/* native/process_mutex.cc: ProcessMutex::startWait
 * native/posix/mutex.cc: PosixMutex::startWait
 * native/posix/flock_waiter.cc: FlockWaiter::start, whole under FlockWaiter::mutex_ */
inline startWait() {
  atomic {
    use();
    waitingFile = (owned == 0 -> 1 : 0);
    if
    :: file[waitingFile] == NONE -> file[waitingFile] = named
    :: else
    fi;
#ifndef MUTANT_EXPIRY_UNNOTICED
    if
    :: expired -> !alive; expired = false; spawned = false
    :: else
    fi;
#endif
    job = waitingFile;
    phase = waitingPhase;
    looked = false;
    if
    :: !spawned -> spawned = true; alive = true
    :: else
    fi
  }
}

/* native/posix/flock_waiter.cc: FlockWaiter::finish */
inline finish() {
#ifdef MUTANT_FINISH_WAITS_NOT
  phase = idle
#else
  atomic { !ending -> phase = idle }
#endif
}

/* native/posix/mutex.cc: PosixMutex::cancelWait
 * native/posix/flock_waiter.cc: FlockWaiter::cancel */
inline cancelWait() {
  if
  :: atomic { phase == waitingPhase -> phase = calledOff }
     if
     :: atomic { job != NONE -> job = NONE; phase = idle }
     :: job == NONE ->
        cancelled = true;
        !alive;
        atomic { cancelled = false; spawned = false; phase = idle }
     fi
  :: phase == endedPhase -> finish()
  fi;
#ifndef MUTANT_CANCEL_KEEPS_LOCK
  unlockFile(waitingFile)
#endif
}

/* native/process_mutex.cc: ProcessMutex::takeWaited
 * native/process_mutex.cc: ProcessMutex::waitForNext
 * native/posix/mutex.cc: PosixMutex::finishWait */
inline takeWaited(taker) {
  if
  :: !waiting || owner != NONE || phase != endedPhase
  :: waiting && owner == NONE && phase == endedPhase ->
     finish();
     assert(looked);
     if
     :: atomic { !sawNamed -> unlockFile(waitingFile); file[waitingFile] = NONE }
        startWait()
     :: atomic {
          sawNamed ->
          owned = waitingFile;
          waiting = false;
          line?first;
          state[first] = granted;
          owner = first
        }
        second = first;
#ifndef MUTANT_NEXT_UNNAMED
        atomic { nameNext() }
#endif
        if
        :: second != taker -> woken[second] = true
        :: else
        fi;
        second = 0;
        if
        :: nempty(line) -> startWait(); waiting = true
        :: empty(line)
        fi
     fi
  fi;
  first = 0
}

/* native/process_mutex.cc: ProcessMutex::unlock */
inline unlock() {
  unlockFile(owned);
  atomic { owner = NONE; owned = NONE }
#ifndef MUTANT_UNLOCK_LOOKS_NOT_AGAIN
  takeWaited(NONE)
#endif
}

inline lockMutex() { atomic { !mutex -> mutex = true } }
inline unlockMutex() { mutex = false }

proctype thread(byte t) {
  byte rounds = 0;
  byte first = 0;
  byte second = 0;
anew:
  atomic {
    if
    :: rounds == ROUNDS -> goto done
    :: rounds < ROUNDS -> rounds++
    fi;
    woken[t] = false;
    if
    :: goto try
    :: patient[t] = true
    :: patient[t] = false
    fi
  }
  /* native/process_mutex.cc: ProcessMutex::enqueue */
  lockMutex();
  atomic { state[t] = queued; line!t }
  atomic { nameNext() }
  if
  :: !waiting -> startWait(); waiting = true
  :: waiting
  fi;
  unlockMutex();
  /* native/environment.cc: Environment::settle
   * native/mutex_object.cc: MutexObject::cancel */
  do
  :: atomic { woken[t] -> woken[t] = false } goto look
  :: !patient[t] -> goto cancel
  od;

look: /* native/mutex_object.cc: MutexObject::deliver
       * native/process_mutex.cc: ProcessMutex::deliver */
  lockMutex();
  takeWaited(t);
  if
  :: state[t] == granted -> state[t] = delivered; atomic { unlockMutex(); goto published }
  :: state[t] == queued -> unlockMutex()
  fi;
  do
  :: atomic { woken[t] -> woken[t] = false } goto look
  :: !patient[t] -> goto cancel
  od;

published: /* native/mutex_object.cc: MutexObject::settle */
  if
  :: goto owns
  :: /* Its JavaScript is gone. */
#ifndef MUTANT_GIVE_BACK_NOT
     /* native/process_mutex.cc: ProcessMutex::giveBack */
     lockMutex();
     assert(owner == t);
     atomic { state[t] = ended; woken[t] = false }
     unlock();
     unlockMutex();
#endif
     /* native/mutex_object.cc: MutexObject::abandonAll. It names a hold that is over by now. */
#ifdef MUTANT_RELEASE_TWICE
     lockMutex();
     if
     :: owner != NONE -> unlock()
     :: owner == NONE
     fi;
     unlockMutex();
#endif
     goto anew
  fi;

cancel: /* native/process_mutex.cc: ProcessMutex::cancel */
  lockMutex();
  takeWaited(NONE);
  if
  :: state[t] == granted ->
     if
     :: /* takeBack: an abort */ state[t] = ended; unlock()
     :: /* a timeout lets the grant win */ unlockMutex(); goto look
     fi
  :: state[t] == queued ->
     atomic { state[t] = ended; line??eval(t) }
     atomic { nameNext(); first = 0 }
     if
     :: nempty(line) ->
#ifndef MUTANT_CANCEL_LOOKS_NOT_AGAIN
        takeWaited(NONE)
#else
        skip
#endif
     :: empty(line) && waiting -> waiting = false; cancelWait()
     :: empty(line) && !waiting
     fi
  fi;
  unlockMutex();
  goto anew;

try: /* native/process_mutex.cc: ProcessMutex::tryAcquire
      * native/posix/mutex.cc: PosixMutex::tryLock */
  lockMutex();
  if
  :: owner != NONE || waiting || nempty(line) -> unlockMutex(); goto anew
  :: atomic { owner == NONE && !waiting && empty(line) -> use() }
  fi;
  do
  :: atomic {
       file[0] = (file[0] == NONE -> named : file[0]);
       if
       :: locked[file[0]] == NONE -> locked[file[0]] = 0
       :: else -> mutex = false; goto anew
       fi
     }
     if
     :: atomic { file[0] == named -> owned = 0; owner = t; state[t] = delivered; break }
     :: atomic { file[0] != named -> unlockFile(0); file[0] = NONE }
     fi
  od;
  unlockMutex();

owns:
  assert(owner == t && file[owned] != NONE && locked[file[owned]] == owned);
  /* native/process_mutex.cc: ProcessMutex::release */
  lockMutex();
  atomic { state[t] = ended; woken[t] = false }
  unlock();
  unlockMutex();
  goto anew;

done:
  atomic {
    rounds = 0;
    over++;
    /* Nothing is left behind: no wait, and no lock. */
    assert(over < THREADS || (!waiting && owner == NONE && empty(line) && job == NONE &&
                              locked[0] != 0 && locked[0] != 1 && locked[1] != 0 && locked[1] != 1))
  }
}

/* native/posix/flock_waiter.cc: FlockWaiter::run */
proctype waiterThread() {
  byte fd = 0;
  byte first = 0;
absent:
end_absent:
  alive;
warm:
end_warm:
  if
  :: atomic { job != NONE -> fd = job; job = NONE }
  :: atomic { job == NONE -> expired = true } /* its idle time is over */ goto leave
  fi;
  /* native/posix/endable_flock_linux.cc: lock. A cancellation strikes before, in or after the call. */
  if
  :: phase == calledOff -> goto settle
  :: phase != calledOff
  fi;
  assert(file[fd] != NONE);
  if
  :: atomic { locked[file[fd]] == NONE -> locked[file[fd]] = fd }
  :: cancelled -> goto leave
  fi;
  if
  :: cancelled -> goto leave
  :: skip
  fi;
settle:
#ifdef MUTANT_RING_TOO_EARLY
  first = next;
  if
  :: first != NONE -> woken[first] = true
  :: else
  fi;
#endif
  atomic { !ending -> ending = true }
  if
  :: atomic { phase == waitingPhase -> phase = endedPhase }
  :: atomic { phase != waitingPhase -> assert(phase == calledOff); ending = false; goto leave }
  fi;
#ifdef MUTANT_RING_UNDER_LOCK
  lockMutex();
#endif
#ifndef MUTANT_RING_TOO_EARLY
  /* native/process_mutex.cc: ProcessMutex::onWaitEnded */
  first = next;
  if
  :: first != NONE -> woken[first] = true
  :: else
  fi;
#endif
#ifdef MUTANT_RING_UNDER_LOCK
  unlockMutex();
#endif
  /* native/posix/mutex.cc: PosixMutex::flockEnded */
  atomic { sawNamed = (file[fd] == named); looked = true }
  atomic { ending = false; first = 0; fd = 0; goto warm }
leave:
  atomic { first = 0; fd = 0; alive = false; goto absent }
}

/* native/process_mutex.h: isInUse */
#ifdef MUTANT_REST_WAITING
#define isInUse (owner != NONE)
#elif defined(MUTANT_REST_HELD)
#define isInUse (waiting || len(line) != 0)
#else
#define isInUse (owner != NONE || waiting || len(line) != 0)
#endif

/* A thread that has locked another mutex, and looks for descriptors that nobody needs. */
proctype visitor() {
  byte times = 0;
  do
  :: times == RESTS -> break
  :: break
  :: times < RESTS ->
     atomic { times++; otherMutex = true }
     /* native/process_mutex.cc: ProcessMutex::restIf
      * native/process_mutex.cc: ProcessMutex::restLocked. A mutex that is locked is in use. */
#ifdef MUTANT_REST_LOCKS
     lockMutex();
#elif !defined(MUTANT_REST_UNLOCKED)
     if
     :: mutex -> goto leave
     :: atomic { !mutex -> mutex = true }
     fi;
#endif
     if
     :: !isInUse ->
        /* native/posix/mutex.cc: PosixMutex::rest */
        atomic { unlockFile(0); file[0] = NONE }
        atomic { unlockFile(1); file[1] = NONE }
     :: isInUse
     fi;
#ifndef MUTANT_REST_UNLOCKED
     unlockMutex();
#endif
leave:
     otherMutex = false
  od
}

proctype rival() {
  byte times = 0;
  do
  :: times == RIVALS -> break
  :: atomic { times < RIVALS -> times++; file[RIVAL] = named }
     atomic { locked[file[RIVAL]] == NONE -> locked[file[RIVAL]] = RIVAL }
     unlockFile(RIVAL)
  od
}

proctype outsider() {
  if
  :: VANISHINGS > 0 -> named = 1
  :: skip
  fi
}

init {
  atomic {
    run waiterThread();
    run rival();
#if RESTS > 0
    run visitor();
#endif
#if VANISHINGS > 0
    run outsider();
#endif
    run thread(0);
    run thread(1);
#if THREADS > 2
    run thread(2);
#endif
  }
}

#define waits(t) (state[t] == queued && patient[t])
ltl served { [] (waits(0) -> <> !waits(0)) && [] (waits(1) -> <> !waits(1)) }
