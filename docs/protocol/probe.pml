/* Where the kernel shows no list of locks (as in some containers), query() takes a shared lock for a moment. A try that
 * comes in this moment must not report that somebody owns the mutex, and a waiter must still be served.
 *
 * A probe that a try has met is over before the next one: it takes a microsecond, and the try yields the processor. So
 * TRIES are enough when they are more than the probes. */

#ifndef PROBES
#define PROBES 3      /* by two probers, together */
#endif
#ifndef ROUNDS
#define ROUNDS 2      /* acquisitions of the one that tries, and of the one that waits */
#endif
#define TRIES (PROBES + 1)

mtype { nobody, trier, waiter };

mtype locked = nobody;     /* who has the exclusive lock */
bool probes[2];            /* who has the shared one */
bool tries;                /* the trier's own shared lock */
bool met[2];               /* the probe has refused a try */
byte probed;
bool waits;

/* What the protocol is judged by. */
bool owned;                /* somebody has owned the lock since the try began */

#define isShared (probes[0] || probes[1])

/* native/posix/courtesy.cc: lockNow, for the exclusive lock */
inline lockNow() {
  atomic {
    !(met[0] && probes[0]) && !(met[1] && probes[1]) ->
    if
    :: locked == nobody && !isShared -> locked = trier
    :: else -> met[0] = probes[0]; met[1] = probes[1]
    fi
  }
}

/* native/posix/courtesy.cc: lockPastProbes */
active proctype tryer() {
  byte rounds = 0;
  byte attempt = 0;
  do
  :: rounds == ROUNDS -> break
  :: rounds < ROUNDS ->
     atomic { rounds++; owned = (locked != nobody) }
     lockNow();
     attempt = 0;
#ifdef MUTANT_NO_RETRY
#define isLast true
#elif defined(MUTANT_ONE_RETRY)
#define isLast (attempt == 1)
#else
#define isLast (attempt == TRIES)
#endif
     do
     :: locked == trier -> break
     :: locked != trier && isLast -> break
     :: locked != trier && !isLast ->
        if
        :: atomic { locked != nobody -> break }
        :: atomic { locked == nobody -> tries = true }
        fi;
        tries = false;
        attempt++;
        lockNow()
     od;
     atomic {
       met[0] = false;
       met[1] = false;
       if
       :: locked == trier -> locked = nobody
       :: locked != trier -> assert(owned)
       fi;
       owned = false
     }
  od
}

active proctype patient() {
  byte rounds = 0;
  do
  :: rounds == ROUNDS -> break
  :: atomic { rounds < ROUNDS -> rounds++; waits = true }
     /* native/posix/endable_flock_linux.cc: lock. A shared lock that came first is waited for as any other. */
     atomic { locked == nobody && !isShared && !tries -> locked = waiter; owned = true; waits = false }
     locked = nobody
  od
}

/* native/posix/mutex.cc: PosixMutex::snapshot */
active [2] proctype prober() {
  byte p = _pid % 2;
  do
  :: break
  :: probed == PROBES -> break
  :: atomic { probed < PROBES && locked == nobody -> probes[p] = true; probed++ }
     atomic { probes[p] = false; met[p] = false }
  :: /* It reports an owner, and there is one. */
     atomic { probed < PROBES && locked != nobody -> probed++ }
  od
}

ltl served { [] (waits -> <> !waits) }
