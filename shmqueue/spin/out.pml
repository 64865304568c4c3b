/* The OUT queue, src/dual.rs and src/dual/output.rs: an endless stream; the driver, on a processor of its own, never waits,
 * and is started only by the server. Every packet is sent, once, in order; none is stranded; the server never fails.
 *
 * The server may stop for ever at any time. A driver that is idle then with a packet on the queue has stranded it: a
 * deadlock. ITEMS buffers go round, numbered modulo 4.
 */
// broken: NO_PRODUCER_FENCE the fence of `OutProducer::consumer_idle`
// broken: NO_CONSUMER_FENCE the fence of `OutConsumer::drain`
// broken: NO_RETRY goes idle without a second look
// broken: BUSY_WITHOUT_CONDITION a locked sub-queue ends the drain without the condition
// broken: CONDITION_IGNORED the server never starts the device
// broken: FOLLOWS_EARLY the driver follows before its own sub-queue is empty
// broken: NO_FENCE_INTERRUPT a fence of the mutex
// broken: NO_FENCE_PROTOCOL a fence of the mutex
#ifndef ITEMS
#define ITEMS 2
#endif
#define WORDS (11 + 2 * ITEMS)
#define FLAG(side, sub) (5 * (sub) + (side))
#define TURN(sub) (5 * (sub) + 2)
#define HEAD(sub) (5 * (sub) + 3)
#define ENABLED(sub) (5 * (sub) + 4)
#define CONDITION 10
#define LINK(item) (10 + (item)) /* items 1 to ITEMS */
#define NUMBER(item) (10 + ITEMS + (item))
#include "memory.h"
#include "lock.h"

bit taken_item[ITEMS + 1];
byte on_queue;
bit stopped;
bit started = 1; /* `device_start` has been called and the driver has not yet drained */

/* Tail */
byte tail_current, last[2];

/* `Tail::push`, under the mutex of `sub` */
inline push(sub, item, x) {
    LOAD(P, HEAD(sub), x);                        /* sub.head.load(Relaxed) */
    if
    :: x == 0 -> STORE(P, HEAD(sub), item)        /* sub.head.store(first, Relaxed) */
    :: else -> STORE(P, LINK(last[sub]), item)    /* link.store(first, Relaxed) */
    fi;
    last[sub] = item;
    x = 0;
}

active proctype server() {
    byte item, number = 1, x, sub;
    do
    :: /* a buffer that is free */
        atomic {
            if
            :: !taken_item[1] -> item = 1
#if ITEMS > 1
            :: taken_item[1] && !taken_item[2] -> item = 2
#endif
            fi;
            taken_item[item] = 1
        }
        STORE(P, NUMBER(item), number);           /* the packet */
        STORE(P, LINK(item), 0);                  /* end_chain */
        atomic { number = number % 4 + 1; on_queue++ }
        /* append_chain: */
        sub = tail_current;
        try_lock(P, sub, x);                      /* try_lock_protocol */
        if
        :: x -> x = 0; push(sub, item, x); unlock(P, sub)
        :: else ->                                /* append_to_other */
            sub = 1 - sub;
            lock_protocol(sub, x);
            push(sub, item, x);
            STORE(P, ENABLED(sub), 1);            /* move_to: enabled.store(1, Release) */
            tail_current = sub;
            unlock(P, sub)
        fi;
        /* consumer_idle: */
#ifndef BROKEN_NO_PRODUCER_FENCE
        FENCE(P);                                 /* full_fence() */
#endif
#ifndef BROKEN_CONDITION_IGNORED
        LOAD(P, CONDITION, x);                    /* condition.load(Relaxed) */
#endif
        if
        :: x -> started = 1                       /* device_start */
        :: else
        fi;
        atomic { x = 0; item = 0; sub = 0 }
    :: stopped = 1; break
    od
}

/* Head */
byte head_current, taken, expected = 1;

/* `OutConsumer::refill`: result is 1 if something was taken, 2 if the sub-queue was locked. */
inline refill(result, x) {
    result = 0;
#ifdef BROKEN_FOLLOWS_EARLY
    LOAD(I, ENABLED(1 - head_current), x);
    if
    :: x -> head_current = 1 - head_current; STORE(I, ENABLED(head_current), 0)
    :: else -> LOAD(I, HEAD(head_current), x)
    fi;
#else
    LOAD(I, HEAD(head_current), x);               /* looks_filled: head.load(Relaxed) */
    if
    :: x == 0 ->                                  /* follow */
        LOAD(I, ENABLED(1 - head_current), x);    /* enabled.load(Acquire) */
        if
        :: x -> head_current = 1 - head_current; STORE(I, ENABLED(head_current), 0) /* enabled.store(0, Release) */
        :: else
        fi
    :: else
    fi;
#endif
    if
    :: x ->
        try_lock(I, head_current, x);             /* try_lock_interrupt */
        if
        :: x ->
            LOAD(I, HEAD(head_current), taken);   /* take_all: head.load(Relaxed) */
            STORE(I, HEAD(head_current), 0);      /* head.store(0, Relaxed) */
            unlock(I, head_current);
            result = (taken != 0)
        :: else -> result = 2
        fi
    :: else
    fi;
    x = 0;
}

active proctype driver() {
    byte got, x, result;
    do
    :: started ->                                 /* drain: */
        started = 0;
        STORE(I, CONDITION, 0);                   /* set_condition(0) */
        do
        :: if
            :: taken == 0 ->
                refill(result, x);
                if
#ifdef BROKEN_BUSY_WITHOUT_CONDITION
                :: result == 2 -> break
#endif
                :: result == 1
                :: else ->
                    STORE(I, CONDITION, 1);       /* set_condition(1) */
#ifndef BROKEN_NO_CONSUMER_FENCE
                    FENCE(I);                     /* full_fence() */
#endif
#ifdef BROKEN_NO_RETRY
                    break;
#endif
                    refill(result, x);
                    if
                    :: result == 1 -> STORE(I, CONDITION, 0)
                    :: else -> break              /* Drained::Idle */
                    fi
                fi
            :: else
            fi;
            got = taken;
            LOAD(I, LINK(got), taken);            /* first: link.load(Relaxed) */
            LOAD(I, NUMBER(got), x);
            atomic {                              /* send */
                assert(x == expected);
                expected = expected % 4 + 1;
                taken_item[got] = 0;
                on_queue--;
                x = 0;
                got = 0;
                result = 0
            }
        od;
        result = 0
    :: stopped && on_queue == 0 && !started -> break
    od
}
