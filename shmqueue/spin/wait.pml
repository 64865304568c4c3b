/* The word that counts waits, src/wait.rs: no wake-up is lost, and there is at most one post for each wait. The word wraps
 * at 8.
 *
 * The event is sticky: a suspend takes all that was posted before it, so whether it counts further than 1 makes no
 * difference to the waiter. (It may: a waiter whose second look always finds work never takes the posts, one for each of
 * its waits. A kernel keeps a bit, or a count that stops.)
 *
 * The poster brings work for ever, or stops. A poster that last posted exactly 4 waits ago (2^31 in the source) would spare
 * a wake-up: src/wait.rs states it, and that the waits' time-outs bound its cost. So runs end where a wait would
 * have the number that the poster posted last.
 */
// broken: NO_POSTER_FENCE the fence of `Poster::should_post`
// broken: NO_WAITER_FENCE the fence of `WaitWord::prepare`
// broken: NO_RECHECK waits without a second look
// broken: POSTS_ONCE a poster that has posted never posts again
// broken: POSTS_ALWAYS a poster posts for each piece of work
// broken: SAME_NUMBER each wait has the same odd number
// broken: EVENT_NOT_STICKY an event that comes before the wait is lost
#define MODULUS 8
#define WORDS 2
#define WORD 0
#define WORK 1
#include "memory.h"

bit event;
byte last, generation; /* the poster's field, and what it has loaded and not yet used */
byte credit; /* waits without a post; counted to 3, since a post comes two waits late at most (load, store buffer) */
bit stopped;
byte brought, seen; /* pieces of work, modulo 4 */

active proctype poster() {
    do
    :: (brought + 1) % 4 != seen -> /* not round the modulus */
        STORE(I, WORK, (brought + 1) % 4);
        brought = (brought + 1) % 4;
        /* should_post: */
#ifndef BROKEN_NO_POSTER_FENCE
        FENCE(I);                                 /* full_fence() */
#endif
        LOAD(I, WORD, generation);                /* word.load(Relaxed) */
        if
#if defined(BROKEN_POSTS_ONCE)
        :: generation % 2 == 0 || last != 0
#elif defined(BROKEN_POSTS_ALWAYS)
        :: generation % 2 == 0
#else
        :: generation % 2 == 0 || generation == last
#endif
        :: else ->
            atomic {
                last = generation;
                event = 1;                        /* thread_resume */
                assert(credit > 0);
                credit--
            }
        fi;
        generation = 0
    :: stopped = 1; break
    od
}

active proctype waiter() {
    byte number, work;
    do
    :: LOAD(P, WORK, work);
        if
        :: work != seen -> seen = work
        :: else ->
            /* prepare: */
            LOAD(P, WORD, number);            /* word.load(Relaxed) */
#ifdef BROKEN_SAME_NUMBER
            number = 1;
#else
            number = (number + 1 + number % 2) % MODULUS;
            if
            :: number == last || number == generation -> break /* see above */
            :: else
            fi;
#endif
            atomic {
                if
                :: credit < 3 -> credit++
                :: else
                fi
            }
            STORE(P, WORD, number);           /* word.store(…, Release) */
#ifndef BROKEN_NO_WAITER_FENCE
            FENCE(P);                             /* full_fence() */
#endif
#ifndef BROKEN_NO_RECHECK
            LOAD(P, WORK, work);
#endif
            if
            :: work == seen ->
#ifdef BROKEN_EVENT_NOT_STICKY
                event = 0;
#endif
                if
                :: event -> event = 0             /* thread_suspend */
                :: stopped && brought == seen -> break
                fi
            :: else -> seen = work
            fi;
            /* finish: */
            LOAD(P, WORD, number);
#ifdef BROKEN_SAME_NUMBER
            STORE(P, WORD, 0)
#else
            STORE(P, WORD, (number + number % 2) % MODULUS)
#endif
        fi;
        work = 0;
        number = 0
    od
}
