/* Counts of connections, and of what waits for them, in memory that several processes share; see census.pyx. */

#ifndef CREST_CENSUS_H
#define CREST_CENSUS_H

#include <stdint.h>

enum { CREST_CENSUS_SLOT = 64 }; /* bytes: a line of the cache, so that processes do not wait for each other's */

typedef struct {
    uint32_t accepting; /* 1: the process takes connections */
    uint32_t connections;
    uint64_t waiting; /* bytes of messages that wait */
    char rest[CREST_CENSUS_SLOT - 16];
} crest_census_slot;

/* Aligned words are written and read whole on each processor that crest knows. `volatile` keeps the compiler from
 * reading once what others change, and no order among slots is needed. */
static inline void crest_census_accept(crest_census_slot *slot, uint32_t accepting) {
    *(volatile uint32_t *)&slot->accepting = accepting;
}

static inline void crest_census_count(crest_census_slot *slot, uint32_t connections) {
    *(volatile uint32_t *)&slot->connections = connections;
}

static inline void crest_census_wait(crest_census_slot *slot, uint64_t waiting) {
    *(volatile uint64_t *)&slot->waiting = waiting;
}

/* The bytes that wait in all processes together. */
static inline uint64_t crest_census_waiting(const crest_census_slot *slots, uint32_t count) {
    uint64_t waiting = 0;
    for (uint32_t i = 0; i < count; i++) waiting += *(const volatile uint64_t *)&slots[i].waiting;
    return waiting;
}

/* How many processes take connections. */
static inline uint32_t crest_census_accepting(const crest_census_slot *slots, uint32_t count) {
    uint32_t accepting = 0;
    for (uint32_t i = 0; i < count; i++) accepting += *(const volatile uint32_t *)&slots[i].accepting;
    return accepting;
}

/* The fewest connections that a process has of those that take some; UINT32_MAX: none does. */
static inline uint32_t crest_census_least(const crest_census_slot *slots, uint32_t count) {
    uint32_t least = UINT32_MAX;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t connections = *(const volatile uint32_t *)&slots[i].connections;
        if (*(const volatile uint32_t *)&slots[i].accepting && connections < least) least = connections;
    }
    return least;
}

#endif
