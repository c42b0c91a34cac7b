/* The lock between processes (Linux, macOS): flock on a file whose name may vanish, owners that may be killed at any step, waits
 * that may be called off at any step, and the mark that tells an abandonment. One step of the model is one system call.
 *
 * Acquirers 0 and 2 are two descriptions of one process and die together; 1 is a process of its own. */

#ifndef ROUNDS
#define ROUNDS 2    /* acquisitions that each acquirer tries */
#endif
#ifndef VANISHINGS
#define VANISHINGS 2
#endif
#ifndef KILLS
#define KILLS 2
#endif
#ifndef ACQUIRERS
#define ACQUIRERS 3
#endif
#define PROCESSES 2
#define INODES (VANISHINGS + ACQUIRERS)
#define NONE 255
#define processOf(d) (d % 2)

/* The kernel's and the disk's. */
byte named = NONE;             /* the inode that the mutex's path leads to */
byte inodes = 0;               /* made so far */
byte locked[INODES] = NONE;    /* the description that has the lock. Whom the kernel lets in next is left open. */
bool markedHeld[INODES];       /* native/owner_record.cc: isMarkedHeld */
byte file[ACQUIRERS] = NONE;   /* the inode that a description has open */
bool killed[PROCESSES];

/* What the protocol is judged by, and never decides anything. */
bool owner[ACQUIRERS];         /* from the moment in which the acquirer is sure of the lock */
bool bereft[ACQUIRERS];        /* the name was taken from it while it owned: it can exclude nobody any more */
bool working[ACQUIRERS];       /* its record is published, and it has not said that it is done */
bool untold[INODES];           /* an owner ended at work, and no later owner was told */
bool waiting[ACQUIRERS];

/* Not 0 or 1: that an owner has lost its name to somebody is the outsider's doing. */
#define excluding(d) (owner[d] && !bereft[d])
#if ACQUIRERS == 2
#define exclusive (excluding(0) + excluding(1) <= 1)
#else
#define exclusive (excluding(0) + excluding(1) + excluding(2) <= 1)
#endif

/* With the last descriptor of a description its lock is gone, and so is the owner. */
inline close(d) {
  d_step {
    if
    :: file[d] != NONE && locked[file[d]] == d -> letGo(d)
    :: else
    fi;
    file[d] = NONE
  }
}

inline letGo(d) {
  untold[file[d]] = untold[file[d]] || working[d];
  working[d] = false;
  owner[d] = false;
  bereft[d] = false;
  locked[file[d]] = NONE
}

/* flock(LOCK_UN), which is no error without a lock. */
inline unlock(d) {
  d_step {
    if
    :: file[d] != NONE && locked[file[d]] == d -> letGo(d)
    :: else
    fi
  }
}

/* native/posix/lock_file.cc: LockFile::open
 * native/posix/lock_file.cc: createFile. It replaces nothing: one maker wins, the others look again. */
inline open(d) {
  do
  :: file[d] != NONE -> break
  :: atomic { file[d] == NONE && named != NONE -> file[d] = named }
#ifdef MUTANT_REPLACING_RENAME
  :: file[d] == NONE && named == NONE ->
     atomic { inodes < INODES -> named = inodes; inodes++ }
#else
  :: atomic { file[d] == NONE && named == NONE -> named = inodes; inodes++ }
#endif
  od
}

/* native/posix/lock_file.cc: LockFile::isStillNamed. Who finds itself so named owns. */
inline becomeOwner(d) {
  owner[d] = true;
  assert(exclusive)
}
#ifdef MUTANT_NO_NAME_CHECK
#define isStillNamed(d) true
#else
#define isStillNamed(d) (file[d] == named)
#endif

proctype acquirer(byte d) {
  byte rounds;
  bool abandoned;
  {
    rounds = 0;
next:
    atomic {
      waiting[d] = false;
      abandoned = false;
      /* Nothing is left behind by what came before: no lock, and no owner. */
      assert(!owner[d] && (file[d] == NONE || locked[file[d]] != d));
      if
      :: rounds == ROUNDS -> goto over
      :: rounds < ROUNDS -> rounds++
      fi;
      if
      :: goto try
      :: waiting[d] = true; goto wait
      fi
    }

try: /* native/posix/mutex.cc: PosixMutex::tryLock */
    open(d);
    if
    :: atomic { locked[file[d]] == NONE -> locked[file[d]] = d }
    :: atomic { locked[file[d]] != NONE -> goto next }
    fi;
    if
    :: atomic { isStillNamed(d) -> becomeOwner(d) }
    :: atomic { !isStillNamed(d) -> close(d); goto try }
    fi;
    goto granted;

wait: /* native/posix/mutex.cc: PosixMutex::startWait */
    open(d);
    /* native/posix/flock_waiter.cc: FlockWaiter::run. Before, in and after the call it may be called off. */
    if
    :: atomic { locked[file[d]] == NONE -> locked[file[d]] = d }
    :: goto calledOff
    fi;
    /* native/posix/mutex.cc: PosixMutex::flockEnded
     * native/posix/mutex.cc: PosixMutex::finishWait */
    if
    :: atomic { isStillNamed(d) -> becomeOwner(d) }
#ifdef MUTANT_WAIT_ON
    :: atomic { !isStillNamed(d) -> unlock(d); goto wait }
#else
    :: atomic { !isStillNamed(d) -> close(d); goto wait }
#endif
    :: goto calledOff
    fi;
    goto granted;

calledOff: /* native/posix/mutex.cc: PosixMutex::cancelWait. A lock that came in that moment is given back. */
    atomic {
#ifndef MUTANT_CANCEL_KEEPS_LOCK
      unlock(d);
#endif
      goto next
    }

granted: /* native/posix/mutex.cc: PosixMutex::acquire. Under its lock, nobody else writes the mark. */
    atomic {
      abandoned = markedHeld[file[d]];
      if
      :: /* native/process_mutex.cc: ProcessMutex::deliver
          * native/posix/mutex.cc: PosixMutex::writeRecord. From here on the record tells of a death. */
#ifndef MUTANT_NO_MARK
         markedHeld[file[d]] = true;
#endif
         waiting[d] = false;
         working[d] = true
      :: /* native/process_mutex.cc: ProcessMutex::cancel, with takeBack: the record stays as it was found. */
#ifdef MUTANT_MARK_AT_GRANT
         markedHeld[file[d]] = true;
#endif
         unlock(d);
         goto next
      fi
    }
    if
    :: /* native/mutex_object.cc: MutexObject::settle. Its promise is resolved. */
       atomic {
         /* Told exactly if the last owner ended at work, and then to nobody after this one. */
         assert(abandoned == untold[file[d]]);
         untold[file[d]] = false;
         abandoned = false
       }
    :: /* native/process_mutex.cc: ProcessMutex::giveBack. Published, but its thread has no JavaScript any more: the
        * previous owner's record and mark are put back. */
       atomic {
         working[d] = false;
#ifdef MUTANT_GIVE_BACK_CLEAN
         markedHeld[file[d]] = false
#elif defined(MUTANT_GIVE_BACK_MARKED)
         skip
#else
         markedHeld[file[d]] = abandoned
#endif
       }
       atomic { unlock(d); goto next }
    fi;
    if
    :: /* native/posix/mutex.cc: PosixMutex::unlock, when the owner is done */
#ifdef MUTANT_MARK_AFTER_UNLOCK
       atomic { working[d] = false; unlock(d) }
       markedHeld[file[d]] = false
#else
       atomic {
         working[d] = false;
#ifndef MUTANT_KEEP_MARK
         markedHeld[file[d]] = false
#endif
       }
       unlock(d)
#endif
    :: /* the same when the owner's worker ended at work: without the mark */
       unlock(d)
    fi;
    goto next;
over:
    skip
  } unless {
    killed[processOf(d)]
  }
  atomic { waiting[d] = false; abandoned = false; rounds = 0; close(d) }
}

/* At any step, or never. */
proctype killer() {
  byte kills = 0;
  do
  :: break
  :: atomic { kills < KILLS && !killed[0] -> killed[0] = true; kills++ }
  :: atomic { kills < KILLS && !killed[1] -> killed[1] = true; kills++ }
  :: kills == KILLS -> break
  od
}

/* Somebody who unlinks the file, or moves it away and back. */
proctype outsider() {
  byte times = 0;
  byte other;
  do
  :: times == VANISHINGS -> break
  :: break
  :: atomic {
       times < VANISHINGS && named != NONE ->
       times++;
       if
       :: other = NONE
       :: named != 0 -> other = 0
       fi;
       named = other;
       other = 0;
       do
       :: other < ACQUIRERS -> bereft[other] = bereft[other] || (owner[other] && file[other] != named); other++
       :: else -> break
       od;
       other = 0
     }
  od
}

init {
  atomic {
    run acquirer(0);
    run acquirer(1);
#if ACQUIRERS > 2
    run acquirer(2);
#endif
#if KILLS > 0
    run killer();
#endif
#if VANISHINGS > 0
    run outsider();
#endif
  }
}

/* Who waits comes to an end of it: it owns, was called off, or was killed. The others' rounds are limited: the kernel may let them in
 * first, but flock loses no request. */
ltl served { [] (waiting[0] -> <> !waiting[0]) && [] (waiting[1] -> <> !waiting[1]) }
