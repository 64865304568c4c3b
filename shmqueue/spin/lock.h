/* The asymmetric mutex, src/mutex.rs. A model with locks defines FLAG(side, lock) and TURN(lock) as numbers of words.
 * TURN holds the side that goes first, as the constants INTERRUPT and PROTOCOL of the source.
 */
#define INTERRUPT_FIRST 1
#define PROTOCOL_FIRST 2
#define OTHER_FIRST(side) (2 - (side)) /* I gives way to the protocol side, P to the interrupt side */

/* `announce` */
inline announce(side, lock) {
#ifdef BROKEN_SWAPPED
    STORE(side, TURN(lock), OTHER_FIRST(side));
    STORE(side, FLAG(side, lock), 1);
#else
    STORE(side, FLAG(side, lock), 1);           /* own.store(1, Release); store_fence() */
    STORE(side, TURN(lock), OTHER_FIRST(side)); /* turn.store(other, Release) */
#endif
    /* full_fence() */
#if defined(BROKEN_NO_FENCE_INTERRUPT)
    if :: side == P -> FENCE(side) :: else fi;
#elif defined(BROKEN_NO_FENCE_PROTOCOL)
    if :: side == I -> FENCE(side) :: else fi;
#else
    FENCE(side);
#endif
}

/* `held`: theirs.load(Acquire) != 0 && turn.load(Acquire) == other */
inline held(side, lock, result) {
    LOAD(side, FLAG(1 - (side), lock), result);
    if
    :: result != 0 ->
        LOAD(side, TURN(lock), result);
        result = (result == OTHER_FIRST(side))
    :: else
    fi;
}

/* `try_lock`: result is 1 if the lock was taken. */
inline try_lock(side, lock, result) {
    announce(side, lock);
    held(side, lock, result);
    if
    :: result ->
#ifndef BROKEN_FLAG_LEFT
        STORE(side, FLAG(side, lock), 0); /* own.store(0, Release) */
#endif
        result = 0
    :: else -> result = 1
    fi;
}

/* `lock_protocol`. The loop goes round again only when a word that it reads has changed: nothing else can end it, and
 * a wait without an end so becomes a deadlock, which the search reports. */
inline lock_protocol(lock, result) {
    announce(P, lock);
    do
    :: held(P, lock, result);
        if
        :: result -> (mem[FLAG(I, lock)] == 0 || mem[TURN(lock)] != OTHER_FIRST(P)) -> result = 0
        :: else -> break
        fi
    od;
}

/* `InterruptGuard::drop`, `ProtocolGuard::drop` */
inline unlock(side, lock) { STORE(side, FLAG(side, lock), 0) }
