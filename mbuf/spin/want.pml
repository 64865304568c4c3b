/* `m_want`, src/protocol.rs and src/interrupt.rs: who sleeps for want of buffers is woken, for ever, also where there are two of
 * them. Buffers come back to the pool or by the deferred-free queue; after either the driver tests the word.
 *
 * Two threads of the server, which its own lock serialises, each take a buffer and send it, until they end, as they may each
 * time. The driver may stop for ever when it has nothing in hand: a thread that then waits while there is a buffer to be had is a
 * deadlock. A resume is sticky and reaches all who wait. (The mutex's own mistakes are pool.pml's.)
 */
// broken: NO_FENCE_WANT the fence of `ProtocolSpace::want`
// broken: NO_FENCE_WANTED the fence of `InterruptSpace::wanted`
// broken: NO_RECHECK waits without another look at the pool
// broken: NO_DRAIN waits without a look at the deferred-free queue
// broken: NO_TEST_AFTER_DEFERRED the driver does not test m_want after a deferred free
// broken: TEST_FIRST the driver tests m_want before it gives the buffer back
// broken: RESET_BY_ANY each thread that wakes resets m_want
// broken: NEVER_SET nobody sets m_want
#ifndef ITEMS
#define ITEMS 1
#endif
#define WORDS (5 + 3 * ITEMS)
#define FLAG(side, pool) (side)
#define TURN(pool) 2
#define HEAD 3
#define WANT 4
#define LINK(item) (4 + (item)) /* items 1 to ITEMS */
#define DEFERRED(item) (4 + ITEMS + (item))
#define OUT(item) (4 + 2 * ITEMS + (item))
#include "../../shmqueue/spin/memory.h"
#include "../../shmqueue/spin/lock.h"

bit serving;      /* the server's own lock */
bit event[2];
byte waiters;     /* ProtocolSpace::waiters */
byte to_be_had;   /* buffers that the driver has given back and no thread has taken */
bit stopped;

/* `ProtocolSpace::alloc_cluster`: got is the item or 0. */
inline alloc(got, x) {
    lock_protocol(0, x);
    LOAD(P, HEAD, got);
    if
    :: got -> LOAD(P, LINK(got), x); STORE(P, HEAD, x); x = 0
    :: else
    fi;
    unlock(P, 0);
}

/* `ProtocolSpace::drain_deferred`, of one item */
inline drain(item, x, y) {
    LOAD(P, DEFERRED(item), y);
    if
    :: y ->
        STORE(P, DEFERRED(item), 0);
        lock_protocol(0, x);
        LOAD(P, HEAD, x);
        STORE(P, LINK(item), x);
        STORE(P, HEAD, item);
        unlock(P, 0);
        atomic { x = 0; y = 0 }
    :: else
    fi;
}

/* `ProtocolSpace::unwant` */
inline unwant() {
    waiters--;                                    /* self.waiters.saturating_sub(1) */
    if
#ifdef BROKEN_RESET_BY_ANY
    :: STORE(P, WANT, 0)
#else
    :: waiters == 0 -> STORE(P, WANT, 0)          /* want.store(0, Release) */
    :: waiters != 0
#endif
    fi;
}

active [2] proctype thread() {
    byte got, x, y;
    do
    :: atomic { !serving -> serving = 1 };
        /* alloc_cluster_or_want: */
        alloc(got, x);
        if
        :: got == 0 ->
            waiters++;                            /* want: */
#ifndef BROKEN_NEVER_SET
            STORE(P, WANT, 1);                    /* want.store(1, Release) */
#endif
#ifndef BROKEN_NO_FENCE_WANT
            FENCE(P);                             /* full_fence() */
#endif
#ifndef BROKEN_NO_DRAIN
            drain(1, x, y);                       /* self.drain_deferred(deferred, usize::MAX) */
#if ITEMS > 1
            drain(2, x, y);
#endif
#endif
#ifndef BROKEN_NO_RECHECK
            alloc(got, x);                        /* self.alloc_cluster() */
#endif
            if
            :: got -> unwant()
            :: else ->
                serving = 0;
                if
                :: atomic { event[_pid % 2] -> event[_pid % 2] = 0 } /* thread_suspend */
                :: stopped && to_be_had == 0 -> break
                fi;
                atomic { !serving -> serving = 1 };
                unwant()
            fi
        :: else
        fi;
        if
        :: got ->                                 /* a frame for the OUT queue */
            to_be_had--;
            STORE(P, OUT(got), 1);
            got = 0
        :: else
        fi;
        serving = 0
    :: break
    od
}

/* `InterruptSpace::wanted`, and the resume that it asks for */
inline wanted(x) {
#ifndef BROKEN_NO_FENCE_WANTED
    FENCE(I);                                     /* full_fence() */
#endif
    LOAD(I, WANT, x);                             /* want.load(Relaxed) */
    if
    :: x -> atomic { event[0] = 1; event[1] = 1; x = 0 } /* thread_resume */
    :: else
    fi;
}

active proctype driver() {
    byte item, x;
    /* At first all buffers are the driver's, as those in a receive ring are. */
#if ITEMS > 1
    item = 2;
    goto back;
#else
    item = 1;
    goto back;
#endif
    do
    :: /* a frame of the OUT queue */
        if
        :: item = 1
#if ITEMS > 1
        :: item = 2
#endif
        fi;
        LOAD(I, OUT(item), x);
        if
        :: x ->
            x = 0;
            STORE(I, OUT(item), 0);
back:
#ifdef BROKEN_TEST_FIRST
            wanted(x);
#endif
            if
            :: true ->
                try_lock(I, 0, x);                /* try_free */
                if
                :: x ->
                    LOAD(I, HEAD, x);
                    STORE(I, LINK(item), x);
                    STORE(I, HEAD, item);
                    unlock(I, 0);
                    x = 0
                :: else -> STORE(I, DEFERRED(item), 1) /* locked out: defer */
                fi;
                atomic { to_be_had++; item = 0 };
#ifndef BROKEN_TEST_FIRST
                wanted(x)
#endif
            :: true ->
                STORE(I, DEFERRED(item), 1);      /* a chain: defer */
                atomic { to_be_had++; item = 0 };
#if !defined(BROKEN_TEST_FIRST) && !defined(BROKEN_NO_TEST_AFTER_DEFERRED)
                wanted(x)
#endif
            fi
        :: else -> item = 0
        fi
    :: stopped = 1; break
    od
}
