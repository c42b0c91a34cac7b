/* A Win32 mutex and the threads that own it for JavaScript: orders and answers, waits that are called off, threads that end for
 * idleness, processes that are killed. Two processes with one owner thread each. The calls of a process come one after the other,
 * as under ProcessMutex::mutex_. A condition variable is its condition, and an SRW lock is an atomic step. */

#ifndef ROUNDS
#define ROUNDS 2
#endif
#ifndef KILLS
#define KILLS 1
#endif
#define NONE 255

mtype { noOrder, tryLock, wait, unlock, end };             /* native/win32/owner_thread.h: Command */
mtype { idle, waitingPhase, endedPhase, calledOff };       /* native/win32/owner_thread.h: Phase */
mtype { acquired, abandoned, busyOutcome };                /* native/win32/owner_thread.h: WaitOutcome */

/* The kernel's. */
byte kernelOwner = NONE;
bool kernelAbandoned;
bool cancelEvent[2];
bool alive[2];                /* the thread is there */
bool killed[2];

/* OwnerThread */
bool hasHandle[2];            /* thread_ */
mtype command[2] = noOrder;
bool busy[2];
bool expired[2];
bool owns[2];
mtype phase[2] = idle;
mtype outcome[2] = busyOutcome;

bool rung[2];                 /* Client::waitEnded */

/* What the protocol is judged by. */
bool working[2];              /* was told that it owns, and has not said that it is done */
bool untold;                  /* an owner ended at work, and no later owner was told */
bool waits[2];

/* A thread is gone: the kernel takes from it what it owned. */
inline gone(i) {
  d_step {
    if
    :: kernelOwner == i -> kernelOwner = NONE; kernelAbandoned = true
    :: else
    fi;
    /* A process that is killed in the moment of a grant counts as an owner: the kernel can't tell it from one at work. */
    untold = untold || working[i] || (killed[i] && kernelAbandoned && kernelOwner == NONE);
    working[i] = false;
    alive[i] = false
  }
}

/* WAIT_OBJECT_0 and WAIT_ABANDONED_0 */
inline take(i) {
  kernelOwner = i;
  outcome[i] = (kernelAbandoned -> abandoned : acquired);
  kernelAbandoned = false;
  owns[i] = true
}

/* native/win32/owner_thread.cc: OwnerThread::run */
proctype ownerThread(byte i) {
  mtype todo;
  {
    todo = noOrder;
absent:
end_absent:
    atomic { alive[i] -> todo = noOrder }
warm: /* native/win32/owner_thread.cc: OwnerThread::nextCommand */
end_warm:
    if
    :: atomic { command[i] != noOrder -> todo = command[i]; command[i] = noOrder }
#ifdef MUTANT_IDLE_OWNER
    :: atomic { command[i] == noOrder -> expired[i] = true; goto leave }
#else
    :: atomic { command[i] == noOrder && !owns[i] -> expired[i] = true; goto leave }
#endif
    fi;
    if
    :: todo == tryLock ->
       if
       :: atomic { kernelOwner == NONE -> take(i) }
       :: atomic { kernelOwner != NONE -> outcome[i] = busyOutcome }
       fi;
       /* native/win32/owner_thread.cc: OwnerThread::answer */
       busy[i] = false
    :: todo == wait ->
       /* native/win32/owner_thread.cc: OwnerThread::wait. The mutex comes first where both are signalled. */
       if
       :: atomic { kernelOwner == NONE -> take(i) }
       :: atomic { kernelOwner != NONE && cancelEvent[i] -> outcome[i] = busyOutcome; owns[i] = false }
       fi;
#ifdef MUTANT_ANSWER_FIRST
       busy[i] = false;
#endif
       if
       :: atomic { phase[i] == waitingPhase -> phase[i] = endedPhase }
#ifndef MUTANT_ANSWER_FIRST
          busy[i] = false;
#endif
#ifdef MUTANT_RING_UNDER_LOCK
          /* Whoever has given an order has ProcessMutex::mutex_ until it is answered. */
          atomic { command[i] == noOrder -> rung[i] = true }
#else
          rung[i] = true
#endif
       :: atomic { phase[i] != waitingPhase -> busy[i] = false }
       fi
    :: todo == unlock ->
       atomic { assert(kernelOwner == i); kernelOwner = NONE }
       owns[i] = false;
       busy[i] = false
    :: todo == end -> goto leave
    fi;
    goto warm;
leave:
    atomic { gone(i); goto absent }
  } unless {
    killed[i]
  }
  atomic { todo = noOrder; gone(i) }
}

/* native/win32/owner_thread.cc: OwnerThread::order */
inline order(i, what) {
  atomic {
#ifdef MUTANT_EXPIRY_UNNOTICED
    if
    :: hasHandle[i] -> command[i] = what; busy[i] = true
    :: else -> command[i] = what; busy[i] = true; hasHandle[i] = true; alive[i] = true
    fi
#else
    if
    :: hasHandle[i] && !expired[i]
    :: hasHandle[i] && expired[i] -> join(i)
    :: !hasHandle[i]
    fi;
    command[i] = what;
    busy[i] = true;
    if
    :: !hasHandle[i] -> hasHandle[i] = true; alive[i] = true
    :: hasHandle[i]
    fi
#endif
  }
}

/* native/win32/owner_thread.cc: OwnerThread::join
 * native/win32/owner_thread.cc: OwnerThread::forget */
inline join(i) {
  atomic { !alive[i] -> hasHandle[i] = false; expired[i] = false; owns[i] = false; command[i] = noOrder; busy[i] = false }
}

/* native/win32/owner_thread.cc: OwnerThread::awaitAnswer */
inline awaitAnswer(i) { !busy[i] }

/* native/win32/owner_thread.cc: OwnerThread::end */
inline endThread(i) {
  if
  :: !hasHandle[i]
  :: hasHandle[i] -> atomic { command[i] = end; busy[i] = true } join(i)
  fi
}

proctype process(byte i) {
  byte rounds;
  bool abandonedBefore;
  bool first;
  {
    rounds = 0;
anew:
    atomic {
      waits[i] = false;
      first = false;
      abandonedBefore = false;
      /* Nothing is left behind by what came before. */
      assert(kernelOwner != i && !cancelEvent[i] && phase[i] == idle && !busy[i]);
      if
      :: rounds == ROUNDS -> goto over
      :: rounds < ROUNDS -> rounds++
      fi;
      rung[i] = false;
      if
      :: goto trying
      :: goto waiting
      fi
    }

trying: /* native/win32/owner_thread.cc: OwnerThread::tryLock */
    order(i, tryLock);
    awaitAnswer(i);
    if
    :: outcome[i] == busyOutcome -> goto anew
    :: outcome[i] != busyOutcome -> goto settle
    fi;

waiting: /* native/win32/owner_thread.cc: OwnerThread::startWait */
    atomic { waits[i] = true; phase[i] = waitingPhase }
    order(i, wait);
    if
    :: /* native/win32/owner_thread.cc: OwnerThread::finishWait */
       rung[i];
       assert(phase[i] == endedPhase);
       awaitAnswer(i);
       phase[i] = idle;
       assert(outcome[i] != busyOutcome);
       goto settle
    :: /* native/win32/owner_thread.cc: OwnerThread::cancelWait */
       if
       :: atomic { phase[i] == waitingPhase -> phase[i] = calledOff; first = true }
          cancelEvent[i] = true
       :: phase[i] == endedPhase
       fi;
#ifndef MUTANT_CANCEL_UNANSWERED
       awaitAnswer(i);
#endif
       if
       :: first -> cancelEvent[i] = false
       :: !first
       fi;
       phase[i] = idle;
       /* native/win32/mutex.cc: Win32Mutex::cancelWait */
       if
#ifdef MUTANT_CANCEL_UNLOCKS_ABANDONED
       :: outcome[i] != busyOutcome -> order(i, unlock); awaitAnswer(i)
       :: outcome[i] == busyOutcome
#elif defined(MUTANT_CANCEL_KEEPS_LOCK)
       :: skip
#else
       :: outcome[i] == acquired -> order(i, unlock); awaitAnswer(i)
       :: outcome[i] != acquired
#endif
       fi;
#ifndef MUTANT_CANCEL_KEEPS_LOCK
       endThread(i);
#endif
       goto anew
    fi;

settle: /* native/win32/mutex.cc: Win32Mutex::settle */
    abandonedBefore = (outcome[i] == abandoned);
    assert(kernelOwner == i);
    if
    :: /* native/process_mutex.cc: ProcessMutex::cancel, with takeBack
        * native/win32/mutex.cc: Win32Mutex::unlock */
       if
       :: abandonedBefore -> endThread(i)
       :: !abandonedBefore -> order(i, unlock); awaitAnswer(i)
       fi;
       goto anew
    :: /* native/process_mutex.cc: ProcessMutex::deliver. From here on its record tells of a death. */
       atomic { working[i] = true; waits[i] = false }
    fi;
    if
    :: /* native/mutex_object.cc: MutexObject::settle. Its promise is resolved. */
       atomic { assert(abandonedBefore == untold); untold = false }
    :: /* native/process_mutex.cc: ProcessMutex::giveBack. Its JavaScript is gone. */
       working[i] = false;
       if
#ifndef MUTANT_GIVE_BACK_CLEAN
       :: abandonedBefore -> endThread(i)
       :: !abandonedBefore -> order(i, unlock); awaitAnswer(i)
#else
       :: order(i, unlock); awaitAnswer(i)
#endif
       fi;
       goto anew
    fi;
    assert(kernelOwner == i);
    if
    :: /* done */
       working[i] = false;
       order(i, unlock);
       awaitAnswer(i)
    :: /* its worker ended at work */
       endThread(i)
    fi;
    goto anew;
over:
    skip
  } unless {
    killed[i]
  }
  atomic { waits[i] = false; rounds = 0; first = false; abandonedBefore = false }
}

proctype killer() {
  if
  :: KILLS > 0 -> killed[0] = true
  :: skip
  fi
}

init {
  atomic {
    run ownerThread(0);
    run ownerThread(1);
    run process(0);
    run process(1);
    run killer()
  }
}

/* A wait comes to an end. The process that may be killed is 0. */
ltl served { [] (waits[0] -> <> !waits[0]) && [] (waits[1] -> <> !waits[1]) }
