/* Lamport's ring, src/ring.rs, with the idle protocol and a counting resume: N = 2, positions that wrap at 8, an endless
 * stream of items numbered modulo 4. (src/bytes.rs is the same ring with bytes for slots and without an idle protocol.)
 *
 * The producer may stop for ever at any time. A consumer that then waits with an item in the ring is a deadlock.
 */
// broken: NO_PRODUCER_FENCE the fence of `RingProducer::consumer_idle`
// broken: NO_CONSUMER_FENCE the fence of `RingConsumer::set_idle`
// broken: NO_RECHECK waits without a second look
// broken: TAIL_FIRST tail before slot
// broken: HEAD_FIRST head before the slot is read
// broken: FULL_TOO_LATE one item more than there are slots
// broken: EVENT_NOT_STICKY an event that comes before the wait is lost
#define N 2
#define MODULUS 8
#define WORDS 5
#define TAIL 0
#define HEAD 1
#define CONDITION 2
#define SLOT(position) (3 + ((position) % N))
#include "memory.h"

#ifdef BROKEN_FULL_TOO_LATE
#define CAPACITY (N + 1)
#else
#define CAPACITY N
#endif

bit stopped, event;
byte in_ring; /* pushed and not yet popped */

/* The producer is the interrupt side: it never waits, but for room, which its caller would drop the item for. */
active proctype producer() {
    byte tail, head_seen, item = 1, x; /* RingProducer's fields */
    do
    :: /* push: */
        if
        :: (tail + MODULUS - head_seen) % MODULUS == CAPACITY -> /* self.tail.wrapping_sub(self.head_seen) == N */
            LOAD(I, HEAD, head_seen);                            /* head.load(Acquire) */
            assert((tail + MODULUS - head_seen) % MODULUS <= CAPACITY) /* else PeerMisbehaviour::Index */
        :: else
        fi;
        if
        :: (tail + MODULUS - head_seen) % MODULUS == CAPACITY ->
            (mem[HEAD] != head_seen) /* PushError::Full: again when that can have changed */
        :: else ->
#ifdef BROKEN_TAIL_FIRST
            STORE(I, TAIL, (tail + 1) % MODULUS);
            STORE(I, SLOT(tail), item);
#else
            STORE(I, SLOT(tail), item);           /* slot(tail).store(item, Relaxed) */
            STORE(I, TAIL, (tail + 1) % MODULUS); /* tail.store(self.tail, Release) */
#endif
            atomic { tail = (tail + 1) % MODULUS; in_ring++; item = item % 4 + 1 }
            /* consumer_idle: */
#ifndef BROKEN_NO_PRODUCER_FENCE
            FENCE(I);                             /* full_fence() */
#endif
            LOAD(I, CONDITION, x);                /* condition.load(Relaxed) */
            if
            :: x -> event = 1; x = 0              /* thread_resume */
            :: else
            fi
        fi
    :: stopped = 1; break
    od
}

byte head, tail_seen, expected = 1; /* RingConsumer's fields, and the item that is next */

inline pop(item) {
    item = 0;
    if
    :: tail_seen == head ->
        LOAD(P, TAIL, tail_seen);                 /* tail.load(Acquire) */
        assert((tail_seen + MODULUS - head) % MODULUS <= CAPACITY) /* else PeerMisbehaviour::Index */
    :: else
    fi;
    if
    :: tail_seen != head ->
#ifdef BROKEN_HEAD_FIRST
        STORE(P, HEAD, (head + 1) % MODULUS);
        FENCE(P);
        LOAD(P, SLOT(head), item);
#else
        LOAD(P, SLOT(head), item);                /* slot(head).load(Relaxed) */
        STORE(P, HEAD, (head + 1) % MODULUS);     /* head.store(self.head, Release) */
#endif
        atomic {
            assert(item == expected);             /* in order, whole, once */
            head = (head + 1) % MODULUS;
            in_ring--;
            expected = expected % 4 + 1
        }
    :: else
    fi;
}

active proctype consumer() {
    byte item;
    do
    :: pop(item);
        if
        :: item == 0 ->
            STORE(P, CONDITION, 1);               /* set_idle: condition.store(1, Release) */
#ifndef BROKEN_NO_CONSUMER_FENCE
            FENCE(P);                             /* full_fence() */
#endif
#ifndef BROKEN_NO_RECHECK
            pop(item);
#endif
            if
            :: item == 0 ->
#ifdef BROKEN_EVENT_NOT_STICKY
                event = 0;
#endif
                if
                :: event -> event = 0             /* thread_suspend */
                :: stopped && in_ring == 0 -> break
                fi
            :: else
            fi;
            STORE(P, CONDITION, 0)                /* clear_idle */
        :: else
        fi;
        item = 0
    od
}
