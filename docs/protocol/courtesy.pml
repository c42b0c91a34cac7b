/* Fairness over flock (Linux, macOS), which wakes a waiter and hands nothing over. A process that acquires in a tight
 * loop, by tries or by waits, meets one that waits. The waiter may be stopped, for a while or for ever. It may be slow:
 * it misses the first patience, but not the longer one. A pretender has a place in the queue and never asks for the
 * lock.
 *
 * Time is a budget. A patience ends at any moment, but not before a waiter that runs had its chance. A rest lasts REST
 * acquisitions. The loop always comes again within its patience. Its waits may be called off at any step. */

#ifndef ROUNDS
#define ROUNDS 2      /* waits of the waiter. The loop never ends. */
#endif
#ifndef STOPS
#define STOPS 1       /* how often the waiter is stopped */
#endif
#ifndef PRETENCES
#define PRETENCES 2   /* how often the pretender comes and leaves */
#endif
#define REST 3        /* stands for nine times the patience */

mtype { nobody, loop, waiter };

mtype locked = nobody;     /* flock on the lock file */
mtype lastOwner = nobody;  /* whose record it has */
bool queued;               /* the lock file's queue mark */
bool shared;               /* the waiter's flock on NAME~wait */
bool sharedByLoop;         /* the loop's, while it waits */
bool pretends;             /* the pretender's */
bool exclusive;            /* the loop's, while it looks */

/* Courtesy, in the loop's process */
bool isSteppingAside;
bool longPatience;         /* patience_ is kLongPatience */
byte rest;                 /* acquisitions before restUntil_ */
bool passed;               /* patience_ has passed since lastRelease_ */

bool waits;
bool slow;
bool stopped;

/* What the protocol is judged by. */
bool refused;              /* the loop stepped aside since its last release */
byte sinceVain = REST;     /* its acquisitions since it last did so in vain. REST stands for more. */

#ifdef MUTANT_PATIENCE_UNENDING
#define patienceMayEnd false
#else
#define patienceMayEnd (!waits || stopped || (slow && !longPatience))
#endif

/* native/posix/courtesy.cc: Courtesy::someoneWaits */
inline someoneWaits() {
#ifdef MUTANT_CLEAR_UNLOOKED
  isSteppingAside = false;
  queued = false
#else
  if
  :: atomic { shared || sharedByLoop || pretends -> isSteppingAside = true }
  :: atomic { !shared && !sharedByLoop && !pretends -> exclusive = true }
     queued = false;
     atomic { exclusive = false; isSteppingAside = false }
  fi
#endif
}

/* native/posix/courtesy.cc: Courtesy::isDone */
inline isDone(done) {
  atomic {
    if
    :: lastOwner != loop -> longPatience = false; done = true
    :: lastOwner == loop && !passed -> done = false
    :: lastOwner == loop && passed ->
#ifdef MUTANT_NO_REST
       rest = 0;
#elif defined(MUTANT_REST_UNENDING)
       rest = REST + 1;
#else
       rest = REST;
#endif
#ifndef MUTANT_PATIENCE_STAYS_SHORT
       longPatience = true;
#endif
       done = true
    fi
  }
}

/* native/posix/courtesy.cc: Courtesy::isOthersTurn */
inline isOthersTurn() {
  if
  :: isSteppingAside ->
     isDone(done);
     if
     :: atomic { done -> isSteppingAside = false; done = false }
     :: !done ->
        someoneWaits();
#ifndef MUTANT_LEAVING_UNCHARGED
        /* native/posix/courtesy.cc: Courtesy::takeRest */
        if
        :: atomic { !isSteppingAside -> rest = REST }
        :: isSteppingAside
        fi
#endif
     fi
#ifdef MUTANT_NO_COURTESY
  :: !isSteppingAside
#else
  :: !isSteppingAside ->
     if
     :: queued && lastOwner == loop && !passed && rest == 0 -> someoneWaits()
     :: !(queued && lastOwner == loop && !passed && rest == 0)
     fi
#endif
  fi
}

active proctype tight() {
  bool done = false;
take: /* native/posix/mutex.cc: PosixMutex::tryLock
       * native/posix/courtesy.cc: Courtesy::take */
end_take:
#ifndef MUTANT_TAKE_BEFORE_LOOK
  if
  :: isSteppingAside -> isOthersTurn()
  :: !isSteppingAside
  fi;
  if
  :: isSteppingAside -> goto again
  :: !isSteppingAside
  fi;
#endif
  if
  :: atomic { locked != nobody -> goto again }
  :: atomic { locked == nobody -> locked = loop }
  fi;
  isOthersTurn();
  if
  :: atomic { isSteppingAside -> locked = nobody; refused = true }
  :: !isSteppingAside -> goto owns
  fi;

again: /* a try, or an acquire that waits */
  if
  :: goto take
  :: skip
  fi;

  /* native/posix/courtesy.cc: Courtesy::Place::enter
   * native/posix/courtesy.cc: Courtesy::stepAside */
  do
  :: !isSteppingAside -> break
#ifdef MUTANT_WAIT_AT_ONCE
  :: isSteppingAside -> isSteppingAside = false
#else
  :: isSteppingAside ->
     isDone(done);
     if
     :: atomic { done -> isSteppingAside = false; done = false }
     :: !done
     fi
#endif
  :: isSteppingAside -> /* called off */
#ifdef MUTANT_CALLED_OFF_FORGETS
     isSteppingAside = false;
#endif
     goto take
  od;
  sharedByLoop = true;
  queued = true;
  if
  :: atomic { locked == nobody -> locked = loop; sharedByLoop = false }
  :: atomic { locked != nobody -> sharedByLoop = false } /* called off */ goto take
  fi;

owns:
  atomic {
    assert(!isSteppingAside);
    /* In vain: nobody else had the lock. At most once in REST acquisitions. */
    if
    :: refused && lastOwner == loop -> assert(sinceVain >= REST); sinceVain = 0
    :: else
    fi;
    sinceVain = (sinceVain < REST -> sinceVain + 1 : REST);
    lastOwner = loop
  }
  /* native/posix/courtesy.h: released */
  atomic {
    locked = nobody;
    passed = false;
    refused = false;
#ifdef MUTANT_REST_UNENDING
    rest = (rest > 0 && rest <= REST -> rest - 1 : rest)
#else
    rest = (rest > 0 -> rest - 1 : 0)
#endif
  }
  goto take
}

active proctype patient() {
  byte rounds = 0;
  do
  :: rounds == ROUNDS -> break
  :: rounds < ROUNDS ->
     atomic {
       rounds++;
       waits = true;
       if
       :: slow = true
       :: slow = false
       fi
     }
     /* native/posix/courtesy.cc: Courtesy::Place::enter */
#ifdef MUTANT_MARK_FIRST
     atomic { !stopped -> queued = true }
     atomic { !stopped && !exclusive -> shared = true }
#else
     atomic { !stopped && !exclusive -> shared = true }
     atomic { !stopped -> queued = true }
#endif
     /* Who marks the file while it has its place is seen by all who come until it leaves. */
     assert(queued);
     /* native/posix/endable_flock_linux.cc: lock */
     atomic { !stopped && locked == nobody -> locked = waiter }
     assert(queued);
     /* native/posix/mutex.cc: PosixMutex::flockEnded
      * native/posix/courtesy.cc: Courtesy::Place::leave */
     atomic { !stopped -> shared = false }
     atomic { !stopped -> lastOwner = waiter; waits = false }
     atomic { !stopped -> locked = nobody }
  od
}

active proctype clock() {
end:
  do
  :: atomic { refused && !passed && patienceMayEnd -> passed = true }
  od
}

active proctype stopper() {
  byte stops = 0;
  do
  :: stops == STOPS -> break
  :: break
  :: stops < STOPS ->
     atomic { stops++; stopped = true }
     if
     :: break
     :: stopped = false
     fi
  od
}

active proctype pretender() {
  byte times = 0;
  do
  :: break
  :: times < PRETENCES ->
     times++;
     atomic { !exclusive -> pretends = true }
     queued = true;
     if
     :: break
     :: pretends = false
     fi
  od
}

/* A waiter that runs is served. The loop acquires again and again, unless the waiter was stopped as the owner. */
ltl served { [] (waits -> <> (!waits || stopped)) && [] <> (locked == waiter || lastOwner == loop && locked == loop) }
