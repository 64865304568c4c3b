/* Shared words, for all models: sequentially consistent, or with -DTSO behind the store buffers of x86 (P. Sewell et al.,
 * "x86-TSO", 2010). A store enters the buffer of its side, a load takes the newest store to its word in the own buffer or
 * else the memory, a fence waits until the own buffer is empty, and the memory system takes stores out of it, in order,
 * at any time.
 *
 * Release and Acquire ask nothing more of x86, so only FENCE stands for `sync::full_fence`; `sync::store_fence` is no
 * instruction there. A buffer holds DEPTH stores. A model defines WORDS, then includes this.
 */
#ifndef DEPTH
#define DEPTH 2
#endif

#define I 0 /* the interrupt side */
#define P 1 /* the protocol side */

byte mem[WORDS];

#ifdef TSO

chan buffer[2] = [DEPTH] of { byte, byte };
byte pending[2 * WORDS]; /* stores to the word in the buffer of the side */
byte newest[2 * WORDS];  /* the value of the last of them */

/* The memory system: takes the numbers 0 and 1, as the sides have them. */
active [2] proctype memory_system() {
    byte word, value;
end:
    do
    :: atomic {
        buffer[_pid]?word, value ->
        mem[word] = value;
        pending[_pid * WORDS + word]--;
        if
        :: pending[_pid * WORDS + word] == 0 -> newest[_pid * WORDS + word] = 0
        :: else
        fi;
        word = 0;
        value = 0
    }
    od
}

#define STORE(side, word, value)                                                                                     \
    atomic {                                                                                                         \
        nfull(buffer[side]) -> buffer[side]!word, value;                                                             \
        pending[(side) * WORDS + (word)]++;                                                                          \
        newest[(side) * WORDS + (word)] = value                                                                      \
    }
#define LOAD(side, word, into)                                                                                       \
    atomic {                                                                                                         \
        if                                                                                                           \
        :: pending[(side) * WORDS + (word)] > 0 -> into = newest[(side) * WORDS + (word)]                            \
        :: else -> into = mem[word]                                                                                  \
        fi                                                                                                           \
    }
#define FENCE(side) empty(buffer[side])

#else

#define STORE(side, word, value) mem[word] = value
#define LOAD(side, word, into) into = mem[word]
#define FENCE(side) skip

#endif
