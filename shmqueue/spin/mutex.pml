/* The asymmetric mutex, src/mutex.rs: exclusion and order for ever; no flag is left behind.
 *
 * Each side locks, adds 1 to a word that the mutex guards (modulo 4), and unlocks, as often as it likes. `total` is what
 * the word has to be: a sum that only one at a time can have changed.
 */
// broken: NO_FENCE_INTERRUPT the fence of the interrupt side's `announce`
// broken: NO_FENCE_PROTOCOL the fence of the protocol side's `announce`
// broken: SWAPPED turn before flag
// broken: FLAG_LEFT a failed attempt leaves its flag
#define WORDS 4
#define FLAG(side, lock) (side)
#define TURN(lock) 2
#define GUARDED 3
#include "memory.h"
#include "lock.h"

byte inside; /* how many hold the lock */
byte total;

inline critical_section(side, x) {
    atomic { inside++; assert(inside == 1) }
    LOAD(side, GUARDED, x);
    assert(x == total);
    atomic { x = (x + 1) % 4; total = x }
    STORE(side, GUARDED, x);
    atomic { inside--; x = 0 }
}

active proctype interrupt_side() {
    byte x;
    do
    :: try_lock(I, 0, x);                     /* try_lock_interrupt */
        if
        :: x -> x = 0; critical_section(I, x); unlock(I, 0)
        :: else
        fi
    :: break /* it may never come again */
    od
}

active proctype protocol_side() {
    byte x;
    do
    :: lock_protocol(0, x); critical_section(P, x); unlock(P, 0)
    :: try_lock(P, 0, x);                     /* try_lock_protocol */
        if
        :: x -> x = 0; critical_section(P, x); unlock(P, 0)
        :: else
        fi
    :: break
    od
}
