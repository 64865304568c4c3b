/* The IN queue, src/dual.rs and src/dual/input.rs: an endless stream through two sub-queues, with the idle protocol. Every
 * item arrives, once, in order, whole; no append fails; no wake-up is lost; the producer is wait-free.
 *
 * ITEMS items go round: what the consumer has got the producer fills anew, with a number modulo 4. The producer may stop
 * for ever at any time; a consumer that then waits with an item on the queue is a deadlock.
 */
// broken: NO_PRODUCER_FENCE the fence of `InProducer::consumer_idle`
// broken: NO_CONSUMER_FENCE the fence of `InConsumer::set_idle`
// broken: NO_RECHECK waits without a second look
// broken: RECHECK_CURRENT looks again at the current sub-queue only
// broken: ENABLED_IGNORED goes to the other sub-queue at once
// broken: ENABLED_FIRST Enabled before the try and the item
// broken: ENABLED_NEVER_SET the consumer never follows
// broken: ENABLED_NEVER_CLEARED the consumer follows to where nobody went
// broken: PREFERS_0 the producer returns to sub-queue 0 by itself
// broken: HAND_OVER_HAND the consumer locks the other sub-queue before it lets go of its own
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

bit taken_item[ITEMS + 1]; /* with the consumer's side, or on the queue */
byte on_queue;             /* appended and not yet got */
bit stopped, event;

/* Tail */
byte tail_current, last[2];

/* `Tail::push`, under the mutex of `sub` */
inline push(sub, item, x) {
    LOAD(I, HEAD(sub), x);                        /* sub.head.load(Relaxed) */
    if
    :: x == 0 -> STORE(I, HEAD(sub), item)        /* sub.head.store(first, Relaxed) */
    :: else -> STORE(I, LINK(last[sub]), item)    /* link.store(first, Relaxed) */
    fi;
    last[sub] = item;
    x = 0;
}

active proctype producer() {
    byte item, number = 1, x, sub;
    do
    :: /* an item that is free */
        atomic {
            if
            :: !taken_item[1] -> item = 1
#if ITEMS > 1
            :: taken_item[1] && !taken_item[2] -> item = 2
#endif
#if ITEMS > 2
            :: taken_item[1] && taken_item[2] && !taken_item[3] -> item = 3
#endif
            fi;
            taken_item[item] = 1
        }
        STORE(I, NUMBER(item), number);           /* the packet */
        STORE(I, LINK(item), 0);                  /* end_chain */
        atomic { number = number % 4 + 1; on_queue++ }
        /* append_chain: */
#ifdef BROKEN_PREFERS_0
        tail_current = 0;
#endif
        sub = tail_current;
        try_lock(I, sub, x);
        if
        :: x -> x = 0; push(sub, item, x); unlock(I, sub)
        :: else ->                                /* append_to_other */
            sub = 1 - sub;
#ifdef BROKEN_ENABLED_FIRST
            STORE(I, ENABLED(sub), 1);
#endif
            try_lock(I, sub, x);
            assert(x);                            /* else EnqueueError::Locked: "impossible" */
            x = 0;
            push(sub, item, x);
#if !defined(BROKEN_ENABLED_NEVER_SET) && !defined(BROKEN_ENABLED_FIRST)
            STORE(I, ENABLED(sub), 1);            /* move_to: enabled.store(1, Release) */
#endif
            tail_current = sub;
            unlock(I, sub)
        fi;
        /* consumer_idle: */
#ifndef BROKEN_NO_PRODUCER_FENCE
        FENCE(I);                                 /* full_fence() */
#endif
        LOAD(I, CONDITION, x);                    /* condition.load(Relaxed) */
        if
        :: x -> event = 1                         /* thread_resume */
        :: else
        fi;
        atomic { x = 0; item = 0; sub = 0 }
    :: stopped = 1; break
    od
}

/* Head; a taken chain of 0 is None. */
byte head_current, taken, expected = 1;

/* `InConsumer::dequeue`: got is the item or 0. */
inline dequeue(got, x, follow_too) {
    got = 0;
    if
    :: taken == 0 ->                              /* refill */
        LOAD(P, HEAD(head_current), x);           /* looks_filled: head.load(Relaxed) */
        if
        :: x == 0 && follow_too ->                /* follow */
#ifndef BROKEN_ENABLED_IGNORED
            LOAD(P, ENABLED(1 - head_current), x); /* enabled.load(Acquire) */
#else
            x = 1;
#endif
            if
            :: x ->
#ifdef BROKEN_HAND_OVER_HAND
                lock_protocol(head_current, x);
                lock_protocol(1 - head_current, x);
                unlock(P, 1 - head_current);
                unlock(P, head_current);
                x = 1;
#endif
                head_current = 1 - head_current;
#ifndef BROKEN_ENABLED_NEVER_CLEARED
                STORE(P, ENABLED(head_current), 0) /* enabled.store(0, Release) */
#endif
            :: else
            fi
        :: else
        fi;
        if
        :: x ->
            lock_protocol(head_current, x);
            LOAD(P, HEAD(head_current), taken);   /* take_all: head.load(Relaxed) */
            STORE(P, HEAD(head_current), 0);      /* head.store(0, Relaxed) */
            unlock(P, head_current)
        :: else
        fi;
        x = 0
    :: else
    fi;
    if
    :: taken != 0 ->
        got = taken;
        LOAD(P, LINK(got), taken);                /* first: link.load(Relaxed) */
        LOAD(P, NUMBER(got), x);
        atomic {
            assert(x == expected);                /* in order, whole, once */
            expected = expected % 4 + 1;
            taken_item[got] = 0;
            on_queue--;
            x = 0
        }
    :: else
    fi;
}

active proctype consumer() {
    byte got, x;
    do
    :: dequeue(got, x, true);
        if
        :: got == 0 ->
            STORE(P, CONDITION, 1);               /* set_idle: condition.store(1, Release) */
#ifndef BROKEN_NO_CONSUMER_FENCE
            FENCE(P);                             /* full_fence() */
#endif
#if defined(BROKEN_RECHECK_CURRENT)
            dequeue(got, x, false);
#elif !defined(BROKEN_NO_RECHECK)
            dequeue(got, x, true);
#endif
            if
            :: got == 0 ->
                if
                :: event -> event = 0             /* thread_suspend */
                :: stopped && on_queue == 0 -> break
                fi
            :: else
            fi;
            STORE(P, CONDITION, 0)                /* clear_idle */
        :: else
        fi;
        got = 0
    od
}
