/* A pool, src/pool.rs, src/interrupt.rs and src/protocol.rs: buffers go round for ever between the free list, the driver and
 * the server. No buffer is on the free list while anybody refers to it, none is lost, and no reference count is wrong.
 *
 * An item is an mbuf with its cluster. The server may refer to it twice (a split, a copy by reference); the driver frees what is
 * simple and leaves the rest to the deferred-free queue. The two queues are words here, one for each item and way: their own
 * models are those of shmqueue. The driver may stop for ever when it has nothing in hand.
 */
// broken: NO_FENCE_INTERRUPT a fence of the mutex
// broken: NO_FENCE_PROTOCOL a fence of the mutex
// broken: DRIVER_TAKES_UNLOCKED the driver takes from a pool that it could not lock
// broken: DRIVER_FREES_UNLOCKED the driver frees into a pool that it could not lock
// broken: SERVER_FREES_UNLOCKED the server writes the heads after the unlock
// broken: SHARED_IS_FREED the driver frees what somebody else refers to
// broken: COUNT_STAYS the server frees without a look at the count
#ifndef ITEMS
#define ITEMS 2
#endif
#define WORDS (4 + 4 * ITEMS)
#define FLAG(side, pool) (side)
#define TURN(pool) 2
#define HEAD 3
#define LINK(item) (3 + (item)) /* items 1 to ITEMS */
#define COUNT(item) (3 + ITEMS + (item))
#define IN(item) (3 + 2 * ITEMS + (item)) /* delivered or deferred: the server's */
#define OUT(item) (3 + 3 * ITEMS + (item))
#include "../../shmqueue/spin/memory.h"
#include "../../shmqueue/spin/lock.h"

byte references[ITEMS + 1]; /* what the counts have to be: mbufs in hand and on queues */
bit stopped;

/* `init`: all items are free. */
init {
    atomic {
        mem[HEAD] = 1;
        #if ITEMS > 1
        mem[LINK(1)] = 2;
#endif
        run driver();
        run server()
    }
}

/* `take_pairs`, under the mutex: item is 0 if the pool is empty. */
inline take(side, item, x) {
    LOAD(side, HEAD, item);                       /* lists.mbufs.load(Relaxed) */
    if
    :: item != 0 ->
        LOAD(side, COUNT(item), x);               /* Count::load: else PeerMisbehaviour::Refused */
        assert(x == 0);
        LOAD(side, LINK(item), x);                /* mbuf.next.load(Relaxed) */
        STORE(side, COUNT(item), 1);              /* Count::Used(1).store(count) */
        STORE(side, HEAD, x);                     /* lists.mbufs.store(mbufs, Relaxed) */
        atomic { assert(references[item] == 0); references[item] = 1; x = 0 }
    :: else
    fi;
}

/* `Giving`, under the mutex. */
inline give(side, item, x) {
    STORE(side, COUNT(item), 0);                  /* Count::Free(..).store(count) */
    LOAD(side, HEAD, x);                          /* Giving::start */
    STORE(side, LINK(item), x);                   /* mbuf.next.store(self.first_mbuf, Relaxed) */
    STORE(side, HEAD, item);                      /* Giving::finish: lists.mbufs.store */
    x = 0;
}

proctype driver() {
    byte item, x;
    do
    :: item == 0 ->                               /* try_alloc_cluster_batch */
        try_lock(I, 0, x);
#ifdef BROKEN_DRIVER_TAKES_UNLOCKED
        take(I, item, x);
        unlock(I, 0)
#else
        if
        :: x -> x = 0; take(I, item, x); unlock(I, 0)
        :: else                                   /* interrupt_locked_out: the next pool */
        fi
#endif
    :: item == 0 ->                               /* a frame of the OUT queue, sent at once */
        if
        :: item = 1
#if ITEMS > 1
        :: item = 2
#endif
        fi;
        LOAD(I, OUT(item), x);
        if
        :: x -> STORE(I, OUT(item), 0)
        :: else -> item = 0
        fi;
        x = 0
    :: item != 0 ->                               /* try_free */
        try_lock(I, 0, x);
#ifdef BROKEN_DRIVER_FREES_UNLOCKED
        x = 1;
#endif
        if
        :: x ->
            LOAD(I, COUNT(item), x);              /* Count::load(count) */
#ifdef BROKEN_SHARED_IS_FREED
            x = 1;
#endif
            if
            :: x == 1 ->                          /* Count::Used(1) */
                x = 0;
                atomic { references[item]--; assert(references[item] == 0) }
                give(I, item, x);
                unlock(I, 0);
                item = 0
            :: else -> x = 0; unlock(I, 0); STORE(I, IN(item), 1); item = 0 /* Count::Used(2..): defer */
            fi
        :: else -> STORE(I, IN(item), 1); item = 0 /* locked out: defer */
        fi
    :: item != 0 -> STORE(I, IN(item), 1); item = 0 /* a received frame */
    :: item == 0 -> FENCE(I); stopped = 1; break
    od
}

byte mine[ITEMS + 1]; /* the server's references */

#if ITEMS > 1
#define NONE_OF_MINE (mine[1] == 0 && mine[2] == 0)
#define NONE_QUEUED (mem[IN(1)] == 0 && mem[IN(2)] == 0 && mem[OUT(1)] == 0 && mem[OUT(2)] == 0)
#else
#define NONE_OF_MINE (mine[1] == 0)
#define NONE_QUEUED (mem[IN(1)] == 0 && mem[OUT(1)] == 0)
#endif

/* `Held::free_one` */
inline free_one(item, x, y) {
    lock_protocol(0, x);                          /* self.lock(..) */
    LOAD(P, COUNT(item), y);                      /* Count::load(count) */
#ifdef BROKEN_COUNT_STAYS
    y = 1;
#endif
    if
    :: y == 1 ->                                  /* Count::Used(1) */
        atomic { references[item]--; assert(references[item] == 0); mine[item]-- }
#ifdef BROKEN_SERVER_FREES_UNLOCKED
        unlock(P, 0);
        give(P, item, x)
#else
        give(P, item, x);                         /* Held::release, before drop(guard) */
        unlock(P, 0)
#endif
    :: else ->
        assert(y > 1);                            /* else PeerMisbehaviour::Count(0) */
        STORE(P, COUNT(item), y - 1);             /* Count::Used(n - 1).store(count) */
        atomic { references[item]--; mine[item]-- }
        unlock(P, 0)
    fi;
    y = 0;
}

proctype server() {
    byte item, x, y;
    do
    :: item == 0 && !stopped ->                   /* alloc_cluster */
        lock_protocol(0, x);
        take(P, item, x);
        unlock(P, 0);
        if
        :: item -> mine[item]++; item = 0
        :: else
        fi
    :: atomic { /* an item of the server's */
            if
            :: mine[1] > 0 -> item = 1
#if ITEMS > 1
            :: mine[2] > 0 -> item = 2
#endif
            fi
        };
        if
        :: mine[item] == 1 && !stopped ->         /* share */
            lock_protocol(0, x);
            LOAD(P, COUNT(item), y);
            if
            :: y < 2 -> STORE(P, COUNT(item), y + 1); atomic { references[item]++; mine[item]++ }
            :: else
            fi;
            unlock(P, 0)
        :: free_one(item, x, y)
        :: references[item] == mine[item] && !stopped -> /* to the OUT queue, of which there is one word for each item */
            LOAD(P, OUT(item), x);
            if
            :: x == 0 -> STORE(P, OUT(item), 1); mine[item]--
            :: else
            fi
        fi;
        atomic { x = 0; y = 0; item = 0 }
    :: /* from the IN queue or the deferred-free queue */
        if
        :: y = 1
#if ITEMS > 1
        :: y = 2
#endif
        fi;
        LOAD(P, IN(y), x);
        if
        :: x -> STORE(P, IN(y), 0); mine[y]++
        :: else
        fi;
        atomic { x = 0; y = 0 }
    :: stopped && NONE_OF_MINE ->
        FENCE(P);
        if
        :: NONE_QUEUED ->
            /* Nobody has anything: all are on the free list. */
            LOAD(P, HEAD, x);
            assert(x != 0);
            LOAD(P, LINK(x), y);
#if ITEMS > 1
            assert(y != 0 && y != x);
            LOAD(P, LINK(y), y);
#endif
            assert(y == 0);
            break
        :: else
        fi
    :: stopped && (mem[OUT(1)] == 1
#if ITEMS > 1
        || mem[OUT(2)] == 1
#endif
        ) -> break /* what the driver did not come to send */
    od
}
