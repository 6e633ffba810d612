/* Owns a histogram of latencies: any number of samples in fixed memory, each kept to within 1/64 of its value. */
#ifndef LOAD_LATENCY_H
#define LOAD_LATENCY_H

#include <stdint.h>

/* Below 64 ns every value has its own counter; above, each power of two has 64. */
enum { LATENCY_STEPS = 64, LATENCY_COUNTERS = LATENCY_STEPS * 59 };

struct latency {
    uint64_t counters[LATENCY_COUNTERS];
    uint64_t samples;
};

static inline void latency_add(struct latency *latency, uint64_t ns) {
    int power = ns < LATENCY_STEPS ? 0 : 57 - __builtin_clzll(ns);
    latency->counters[power * LATENCY_STEPS + (int)(ns >> power)]++;
    latency->samples++;
}

/* The value in nanoseconds that a share (0 to 1) of the samples do not exceed; 0 without samples. */
static inline uint64_t latency_percentile(const struct latency *latency, double share) {
    uint64_t seen = 0, rank = (uint64_t)((double)latency->samples * share);
    for (int i = 0; i < LATENCY_COUNTERS; i++) {
        seen += latency->counters[i];
        if (latency->counters[i] && seen > rank) {
            int power = i < 2 * LATENCY_STEPS ? 0 : i / LATENCY_STEPS - 1;
            return (uint64_t)(i - power * LATENCY_STEPS) << power;
        }
    }
    return 0;
}

#endif
