/* Fairness over flock (Linux, macOS), which wakes a waiter and hands nothing over: a process that tries in a tight loop meets one
 * that waits. The 10 ms, in which a waiter that was woken has to run, are taken as kept: without them only a turn is lost. */

#ifndef ROUNDS
#define ROUNDS 2      /* waits of the waiter. The other one never ends. */
#endif

mtype { nobody, hog, waiter };

mtype locked = nobody;     /* flock on the lock file */
mtype lastOwner = nobody;  /* whose record it has */
bool queued;               /* the lock file's queue mark */
bool shared;               /* the waiter's flock on NAME~wait */
bool exclusive;            /* the other one's */
bool waits;

#define comesAgain (queued && lastOwner == hog)

/* native/posix/courtesy.cc: Courtesy::mustStepAside */
inline mustStepAside(must) {
  if
  :: !comesAgain -> must = false
  :: comesAgain ->
     if
#ifdef MUTANT_CLEAR_UNLOOKED
     :: must = false; queued = false
#else
     :: atomic { shared -> must = true }
     :: atomic { !shared -> exclusive = true }
        queued = false;
        atomic { exclusive = false; must = false }
#endif
     fi
  fi
}

/* native/posix/mutex.cc: PosixMutex::tryLock, again and again */
active proctype tight() {
  bool must = false;
end:
  do
  :: /* native/posix/courtesy.h: isSteppingAside */
#ifndef MUTANT_TAKE_BEFORE_LOOK
     if
     :: must -> mustStepAside(must)
     :: !must
     fi;
     if
     :: must -> goto end
     :: !must
     fi;
#endif
     if
     :: atomic { locked != nobody -> goto end }
     :: atomic { locked == nobody -> locked = hog }
     fi;
#ifndef MUTANT_NO_COURTESY
     mustStepAside(must);
#endif
     if
     :: must -> locked = nobody
     :: !must -> lastOwner = hog; locked = nobody
     fi
  od
}

active proctype patient() {
  byte rounds = 0;
  do
  :: rounds == ROUNDS -> break
  :: rounds < ROUNDS ->
     rounds++;
     waits = true;
     /* native/posix/courtesy.cc: Courtesy::queueUp */
#ifdef MUTANT_MARK_FIRST
     queued = true;
     atomic { !exclusive -> shared = true }
#else
     atomic { !exclusive -> shared = true }
     queued = true;
#endif
     /* Who has marked the file while it has its place is seen by all who come until it leaves. */
     assert(queued);
     /* native/posix/endable_flock_linux.cc: lock */
     atomic { locked == nobody -> locked = waiter }
     assert(queued);
     /* native/posix/courtesy.cc: Courtesy::leaveQueue */
     shared = false;
     atomic { lastOwner = waiter; waits = false }
     locked = nobody
  od
}

ltl served { [] (waits -> <> !waits) }
