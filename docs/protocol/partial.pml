/* Who may write a partial: its record and the lock on it, the rename that takes it over, owners that are killed at any
 * step. One step of the model is one system call.
 *
 *   HOSTS 1    the kernel sees every lock
 *   HOSTS 2    two machines that see only their own locks. A leftover is free if the lock is, and the record bears the
 *              boot id of this machine or nothing has changed for six hours
 *   LOCKS 0    a file system without locks: six hours are all there is
 *
 * A process that runs changes its partial, or ends, within six hours. So they pass only for one that has ended or
 * sleeps. A process whose partial somebody took, or dropped, while it slept is overslept. It goes on as it was when it
 * wakes up.
 *
 * An id is never used twice. So a number stands for an id, for its record, and for the data that were made under it. */

#ifndef PROCESSES
#define PROCESSES 2 /* Each makes a new partial, takes one that was left, or drops one. The third only drops. */
#endif
#ifndef HOSTS
#define HOSTS 1
#endif
#ifndef LOCKS
#define LOCKS 1
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef SLEEPS
#define SLEEPS 0
#endif
#ifndef IDS
#define IDS 4       /* The first may be a leftover from before. */
#endif
#define WHOLE 2     /* blocks of a file */
#define NONE 255
#define hostOf(p) (p % HOSTS)
#define lockOf(p, id) locked[hostOf(p) * IDS + id]
#define isOneKernel (HOSTS == 1 && LOCKS)

mtype { gone, blank, written };   /* blank: its maker has not come as far as locking it, or was killed before */

/* The disk's and the kernels'. */
mtype record[IDS] = gone;         /* what the record's name leads to */
byte bootId[IDS];                 /* in the record: whose host has written it */
byte map[IDS];                    /* in the record: how many blocks are there */
byte data[IDS] = NONE;            /* which data the data's name leads to */
byte size[IDS];                   /* of the data: blocks, from the first on */
byte locked[HOSTS * IDS] = NONE;  /* who has the lock on the record, by each kernel's word */
bool killed[PROCESSES];
bool asleep[PROCESSES];

byte ids = 1;                     /* used so far */

/* What the protocol is judged by. It decides nothing, but that six hours do not pass for a maker that runs. */
byte maker[IDS] = NONE;           /* who has made the record, and has not let go of it */
byte writes[PROCESSES] = NONE;    /* the data that a process believes to be its own */
bool overslept[PROCESSES];
bool published[IDS];
bool spoilt[IDS];                 /* has a gap, or bytes of two versions */
bool excused[IDS];                /* see nameData */
bool version[IDS];                /* of the data */
bool versionOf[PROCESSES];        /* of the bytes that the process receives */
byte over = 0;

/* Two processes write the same data only if one of them is overslept: what it writes before it looks still lands
 * there. */
#define mayWrite(p, q) (p == q || writes[q] != fd || overslept[p] || overslept[q])
#if PROCESSES == 2
#define isAlone(p) (mayWrite(p, 0) && mayWrite(p, 1))
#else
#define isAlone(p) (mayWrite(p, 0) && mayWrite(p, 1) && mayWrite(p, 2))
#endif

inline unlock(id) {
  d_step {
    if
    :: id != NONE && lockOf(p, id) == p -> lockOf(p, id) = NONE
    :: else
    fi
  }
}

/* src/download/partial/claim.ts: removePartial. Who takes a leftover loses no data (`mayLose`). */
inline removePartial(id, mayLose) {
#ifdef MUTANT_RECORD_FIRST
  unlinkRecord(id);
#endif
  atomic { assert(data[id] == NONE || mayLose); data[id] = NONE }
#ifndef MUTANT_RECORD_FIRST
  unlinkRecord(id)
#endif
}

inline unlinkRecord(id) {
  d_step { record[id] = gone; map[id] = 0; bootId[id] = 0 }
}

/* A record without data may be removed in the very moment in which its overslept maker wakes up and names the data:
 * they have no record then. The code does not prevent that. Where the record was gone before, the next look must find
 * it out. */
inline nameData(inode) {
  d_step { data[own] = inode; excused[own] = (overslept[p] && record[own] != gone) }
}

/* The owner's end of it. */
inline letGo() {
  d_step {
    unlock(own);
    if
    :: own != NONE -> maker[own] = NONE
    :: else
    fi;
    writes[p] = NONE;
    overslept[p] = false
  }
}

/* src/download/partial/claim.ts: isStill */
inline still() {
  atomic {
    if
    :: maker[old] == NONE
    :: maker[old] == NONE -> isFree = false
    :: maker[old] != NONE && asleep[maker[old]] -> overslept[maker[old]] = true
#ifndef MUTANT_STILL_LEFT_OUT
    :: maker[old] != NONE && !asleep[maker[old]] -> isFree = false
#else
    :: maker[old] != NONE && !asleep[maker[old]]
#endif
    fi
  }
}

/* Room that was taken behind the end goes back to the disk. */
inline cut() {
  atomic {
    assert(size[fd] <= known || !published[fd]); /* What is published is never cut. */
    size[fd] = (size[fd] > known -> known : size[fd])
  }
}

#if SLEEPS > 0
#define whileAwake(p) provided (!asleep[p])
#else
#define whileAwake(p)
#endif
proctype downloader(byte p) whileAwake(p) {
  byte own, old, fd, known;
  bool isFree, takes, looked;
  {
    atomic {
      own = NONE; old = NONE; fd = NONE; isFree = true;
      if
      :: p < 2 -> goto create
      :: p == 2 -> goto ended
      :: record[0] != gone -> old = 0
      :: ids > 1 && record[1] != gone -> old = 1
#if IDS > 2
      :: ids > 2 && record[2] != gone -> old = 2
#endif
#if IDS > 3
      :: ids > 3 && record[3] != gone -> old = 3
#endif
      fi;
      /* src/download/partial/leftovers.ts: findLeftovers
       * src/download/partial/leftovers.ts: present. One with nothing in it is not taken. */
      if
      :: record[old] == written && data[old] != NONE && size[data[old]] >= map[old] -> known = map[old]
      :: else
      fi;
      if
      :: known > 0 && p < 2 -> takes = true; versionOf[p] = version[data[old]]
      :: true
      fi
    }

    /* src/download/partial/claim.ts: holdLeftover. It was opened with the look above. */
#if LOCKS
#ifndef MUTANT_TAKE_UNLOCKED
    if
    :: atomic { lockOf(p, old) == NONE -> lockOf(p, old) = p }
    :: atomic { lockOf(p, old) != NONE -> goto ended }
    fi;
#endif
    /* src/mutex/file-hold.ts: holdFile */
    if
    :: record[old] != gone
    :: atomic { record[old] == gone -> unlock(old); goto ended }
    fi;
#endif
#if HOSTS > 1 && LOCKS
    /* src/download/partial/claim.ts: isOfThisMachine */
    if
    :: record[old] == written && bootId[old] == hostOf(p)
    :: else -> still()
    fi;
#elif !LOCKS
    still();
#endif
    if
    :: atomic { !isFree -> unlock(old); goto ended }
    :: atomic {
         isFree ->
         /* Nobody owns it who was awake. A record is blank until its maker owns it. */
         assert(maker[old] == NONE || overslept[maker[old]] || record[old] == blank)
       }
    fi;
    if
    :: atomic { takes -> takes = false }
    :: !takes -> /* src/download/partial/claim.ts: dropLeftover */
       removePartial(old, true);
       atomic { unlock(old); goto ended }
    fi;

    /* src/download/partial/claim.ts: take */
    if
    :: atomic { data[old] != NONE -> fd = data[old] }
    :: data[old] == NONE ->
       removePartial(old, (maker[old] != NONE && overslept[maker[old]]));
       atomic { unlock(old); goto ended }
    fi;
#ifdef MUTANT_RENAME_FIRST
    atomic { ids < IDS -> own = ids; ids++ }
    if
    :: atomic { data[old] != NONE -> data[own] = data[old]; data[old] = NONE }
    :: atomic { data[old] == NONE -> unlock(old); goto ended }
    fi;
    goto made;
#endif

create: /* src/download/partial/claim.ts: create */
    atomic {
      if
      :: ids == IDS -> unlock(old); goto ended
      :: ids < IDS -> own = ids; ids++
      fi
    }
made:
    /* src/download/partial/claim.ts: makeLocked */
    atomic { assert(record[own] == gone); record[own] = blank; maker[own] = p }
#if LOCKS
    /* src/download/partial/claim.ts: lockOwn */
    if
    :: record[own] != gone
    :: atomic { record[own] == gone -> maker[own] = NONE; overslept[p] = false; goto create }
    fi;
    if
    :: atomic { lockOf(p, own) == NONE -> lockOf(p, own) = p }
    :: atomic { lockOf(p, own) != NONE -> maker[own] = NONE; overslept[p] = false; goto create }
    fi;
#ifndef MUTANT_NO_NAME_CHECK
    if
    :: record[own] != gone
    :: atomic { record[own] == gone -> letGo(); goto create }
    fi;
#endif
#else
    /* src/download/partial/claim.ts: unlocked */
    if
    :: record[own] != gone
    :: atomic { record[own] == gone -> letGo(); goto ended }
    fi;
#endif
    atomic {
      if
      :: record[own] == blank ->
         record[own] = written;
         map[own] = known;
#ifdef MUTANT_OLD_BOOT_ID
         bootId[own] = (old != NONE -> bootId[old] : hostOf(p))
#else
         bootId[own] = hostOf(p)
#endif
      :: else
      fi;
#ifdef MUTANT_RENAME_FIRST
      if
      :: old != NONE -> goto moved
      :: else
      fi;
#endif
      if
      :: old != NONE -> goto move
      :: old == NONE
      fi
    }
    /* src/download/partial/file.ts: create */
    atomic { nameData(own); fd = own; writes[p] = own; goto work }

move: /* src/download/partial/claim.ts: take */
#ifdef MUTANT_OLD_RECORD_FIRST
    unlinkRecord(old);
#endif
    if
#ifdef MUTANT_TAKE_BY_LINK
    :: data[old] != NONE -> nameData(data[old]); data[old] = NONE
#else
    :: atomic { data[old] != NONE -> nameData(data[old]); data[old] = NONE }
#endif
    :: atomic { data[old] == NONE -> goto drop }
    fi;
moved:
#ifndef MUTANT_NO_CHECK_AFTER_RENAME
    if
    :: record[own] != gone
    :: atomic { record[own] == gone -> goto lost }
    fi;
#endif
    if
    :: atomic { data[own] == fd -> writes[p] = fd }
    :: atomic { data[own] != fd -> goto lost }
    fi;
    removePartial(old, false);
    atomic { unlock(old); old = NONE; looked = true; goto work }

work:
    if
    :: known < WHOLE -> /* src/download/partial/file.ts: write */
#ifdef MUTANT_MAP_FIRST
       atomic {
         if
         :: record[own] == written -> map[own] = known + 1
         :: else
         fi
       }
#endif
       if
       :: atomic { size[fd] < known -> goto lost }
       :: size[fd] >= known
       fi;
       atomic {
         assert(isAlone(p));
         /* What is published gets at most a byte that it has. */
         assert(!published[fd] || (overslept[p] && known < size[fd] && version[fd] == versionOf[p]));
         spoilt[fd] = spoilt[fd] || known > size[fd] || version[fd] != versionOf[p];
         known++;
         size[fd] = (size[fd] < known -> known : size[fd]);
         /* The map is written after the first bytes, and then now and then. */
         if
         :: looked -> goto work
         :: goto note
         fi
       }
#ifdef MUTANT_BEGIN_AGAIN_IN_PLACE
    :: atomic {
         known > 0 && !versionOf[p] ->
         versionOf[p] = true;
         version[fd] = true;
         known = 0;
         size[fd] = 0;
         goto note
       }
#endif
    :: atomic { known == WHOLE -> goto finish }
    :: atomic { known > 0 -> goto giveBack }
    :: goto drop
    fi;

note: /* src/download/partial/claim.ts: isOurs
       * src/download/partial/claim.ts: writeMap */
#ifndef MUTANT_NO_CHECK_BEFORE_MAP
    if
    :: record[own] != gone
    :: atomic { record[own] == gone -> goto lost }
    fi;
    if
    :: data[own] == fd
    :: atomic { data[own] != fd -> goto lost }
    fi;
#endif
    atomic {
      if
      :: record[own] == written -> map[own] = known
      :: else
      fi;
      looked = true;
      goto work
    }

finish: /* src/download/partial/file.ts: close */
    if
    :: record[own] != gone
    :: atomic { record[own] == gone -> goto lost }
    fi;
    if
    :: data[own] == fd
    :: atomic { data[own] != fd -> goto lost }
    fi;
    /* src/download/published/publish.ts: giveName. What is published is whole, and of one version. */
    if
    :: atomic {
         data[own] != NONE ->
         assert(data[own] == fd && size[fd] == WHOLE && !spoilt[fd]);
         published[fd] = true;
         data[own] = NONE;
         goto drop
       }
    :: data[own] == NONE ->
       /* Its file is closed: nothing is cut. */
       atomic { letGo(); goto ended }
    fi;

giveBack: /* src/download/partial/file.ts: giveBack */
    atomic {
      if
      :: record[own] == written -> map[own] = known
      :: else
      fi
    }
#ifdef MUTANT_CUT_ANYHOW
    cut();
#elif defined(MUTANT_CUT_AFTER_LOOK)
    if
    :: record[own] != gone && data[own] == fd -> cut()
    :: else
    fi;
#else
    if
    :: isOneKernel -> cut()
    :: else
    fi;
#endif
    atomic { letGo(); goto ended }

lost: /* It finds that it is not the owner any more. That happens to nobody who was awake. */
    assert(overslept[p]);
drop: /* src/download/partial/claim.ts: drop */
    removePartial(own, true);
    atomic { letGo(); unlock(old); goto ended }
ended:
    skip
  } unless {
    killed[p]
  }
  /* The kernel closes one descriptor after the other. */
  unlock(old);
  atomic {
    if
    :: own != NONE && overslept[p] -> excused[own] = true /* killed before its next look */
    :: else
    fi;
    letGo();
    own = NONE; old = NONE; fd = NONE; known = 0; isFree = false; takes = false; looked = false; versionOf[p] = false;
    over++
  }
}

/* At any step, or never. */
proctype killer() {
  byte kills = 0;
end:
  do
  :: atomic { kills < KILLS && over < PROCESSES && !killed[0] -> killed[0] = true; kills++ }
  :: atomic { kills < KILLS && over < PROCESSES && !killed[1] -> killed[1] = true; kills++ }
  od
}

/* For six hours or more. */
proctype sandman() {
  byte sleeps = 0;
end:
  do
  :: atomic { sleeps < SLEEPS -> asleep[0] = true; sleeps++ }
     asleep[0] = false
  :: atomic { sleeps < SLEEPS -> asleep[1] = true; sleeps++ }
     asleep[1] = false
  od
}

init {
  byte id;
  atomic {
    /* What somebody on the first host has left. */
    if
    :: record[0] = written; map[0] = 1; data[0] = 0; size[0] = 1
    :: skip
    fi;
    run downloader(0);
    run downloader(1);
#if PROCESSES > 2
    run downloader(2);
#endif
#if KILLS > 0
    run killer();
#endif
#if SLEEPS > 0
    run sandman();
#endif
  }
  over == PROCESSES;
  /* All have ended. A successor finds all data by their records, can lock these, and can rely on their maps. */
  d_step {
    id = 0;
    do
    :: id == IDS -> break
    :: id < IDS ->
       assert(locked[id] == NONE);
#if HOSTS > 1
       assert(locked[IDS + id] == NONE);
#endif
       assert(data[id] == NONE || record[id] != gone || excused[id]);
       assert(data[id] == NONE || record[id] != written || (size[data[id]] >= map[id] && !spoilt[data[id]]));
       id++
    od
  }
}
