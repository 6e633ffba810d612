/* Numbers by account, in memory that several processes share; see ledger.pyx.
 *
 * A table has one writer and any number of readers. It is an open hash table with linear probing. Its version is odd
 * while it is written, and a reader that has met a change reads again ("seqlock"). A writer that is killed leaves it
 * odd: then readers take what they find, until the table is emptied. */

#ifndef CREST_LEDGER_H
#define CREST_LEDGER_H

#include <stdint.h>

typedef struct {
    uint64_t account; /* 0: none */
    uint64_t value;
} crest_ledger_entry;

typedef struct {
    uint64_t version;
    uint64_t used; /* accounts; of the writer only */
    crest_ledger_entry entries[];
} crest_ledger_table;

enum { CREST_LEDGER_TRIES = 10000 }; /* reads that met a change: after so many the writer has been killed */

#if defined(__GNUC__)
#include <sched.h>
#define CREST_LEDGER_WAIT() sched_yield() /* it may want this processor */
#define CREST_LEDGER_READ(place) __atomic_load_n((place), __ATOMIC_RELAXED)
#define CREST_LEDGER_WRITE(place, value) __atomic_store_n((place), (value), __ATOMIC_RELAXED)
#define CREST_LEDGER_FENCE() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#else /* no processes share memory there */
#define CREST_LEDGER_WAIT() 0
#define CREST_LEDGER_READ(place) (*(const volatile uint64_t *)(place))
#define CREST_LEDGER_WRITE(place, value) (*(volatile uint64_t *)(place) = (value))
#define CREST_LEDGER_FENCE() ((void)0)
#endif

/* The place of an account, or the free one where it would be. `mask` is one less than the entries, a power of two. */
static inline uint64_t crest_ledger_find(const crest_ledger_table *table, uint64_t mask, uint64_t account) {
    uint64_t i = account & mask;
    for (uint64_t left = mask; left; left--) {
        uint64_t found = CREST_LEDGER_READ(&table->entries[i].account);
        if (found == account || !found) break;
        i = (i + 1) & mask;
    }
    return i;
}

static inline uint64_t crest_ledger_get(const crest_ledger_table *table, uint64_t mask, uint64_t account) {
    uint64_t value = 0;
    for (int tries = 0; tries < CREST_LEDGER_TRIES; tries++) {
        uint64_t version = CREST_LEDGER_READ(&table->version);
        CREST_LEDGER_FENCE();
        uint64_t i = crest_ledger_find(table, mask, account);
        value = CREST_LEDGER_READ(&table->entries[i].account) == account ? CREST_LEDGER_READ(&table->entries[i].value) : 0;
        CREST_LEDGER_FENCE();
        if (!(version & 1) && CREST_LEDGER_READ(&table->version) == version) break;
        if (tries >= 100) CREST_LEDGER_WAIT();
    }
    return value;
}

/* Remove the entry at a place, and move those up that would not be found any more. */
static inline void crest_ledger_remove(crest_ledger_table *table, uint64_t mask, uint64_t hole) {
    for (uint64_t i = (hole + 1) & mask; table->entries[i].account; i = (i + 1) & mask) {
        uint64_t home = table->entries[i].account & mask;
        if (((i - home) & mask) < ((i - hole) & mask)) continue; /* its home lies behind the hole */
        CREST_LEDGER_WRITE(&table->entries[hole].account, table->entries[i].account);
        CREST_LEDGER_WRITE(&table->entries[hole].value, table->entries[i].value);
        hole = i;
    }
    CREST_LEDGER_WRITE(&table->entries[hole].account, 0);
    table->used--;
}

/* Set the value of an account; 0 removes it. Returns 0 if there is no room: a quarter of the entries stays free. */
static inline int crest_ledger_set(crest_ledger_table *table, uint64_t mask, uint64_t account, uint64_t value) {
    uint64_t i = crest_ledger_find(table, mask, account);
    int known = table->entries[i].account == account;
    if (!known && (!value || table->used > mask - mask / 4)) return !value;
    CREST_LEDGER_WRITE(&table->version, table->version + 1);
    CREST_LEDGER_FENCE();
    if (!value) {
        crest_ledger_remove(table, mask, i);
    } else {
        CREST_LEDGER_WRITE(&table->entries[i].value, value);
        CREST_LEDGER_WRITE(&table->entries[i].account, account);
        table->used += !known;
    }
    CREST_LEDGER_FENCE();
    CREST_LEDGER_WRITE(&table->version, table->version + 1);
    return 1;
}

#endif
