/* Where the fuzz targets put bytes: at any alignment, with memory around them that AddressSanitizer forbids. */

#ifndef CREST_FUZZ_PLACE_H
#define CREST_FUZZ_PLACE_H

#include <sanitizer/asan_interface.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    LONGEST = 1 << 12, /* bytes of an input */
    ALIGNMENTS = 64,   /* a cache line, and the widest vector */
    MARGIN = 256,      /* on either side: more than any variant could reach by mistake */
    GRANULE = 8,       /* bytes that the sanitizer forbids at a time */
    CANARY = 0xA5,
};

/* Room for four bytes a character. */
typedef struct {
    _Alignas(ALIGNMENTS) uint8_t bytes[MARGIN + ALIGNMENTS + 4 * LONGEST + MARGIN];
    size_t begin, size; /* of what is open */
    bool ready;
} place;

/* `size` bytes at an address that is `alignment` above a multiple of ALIGNMENTS; the rest of the place is forbidden.
 *
 * A byte too many behind them is always seen. In front the sanitizer sees it from the next multiple of GRANULE on: what
 * was written in between is for `intact`. */
__attribute__((no_sanitize("address"))) static inline uint8_t *open_place(place *where, size_t alignment, size_t size)
{
    if (where->ready)
        ASAN_POISON_MEMORY_REGION(where->bytes + where->begin - where->begin % GRANULE, where->size + 2 * GRANULE);
    else
        ASAN_POISON_MEMORY_REGION(where->bytes, sizeof where->bytes);
    where->ready = true;
    where->begin = MARGIN + alignment % ALIGNMENTS;
    where->size = size;
    uint8_t *data = where->bytes + where->begin;
    for (size_t i = 1; i <= GRANULE; i++)
        *(volatile uint8_t *)(data - i) = CANARY;
    ASAN_UNPOISON_MEMORY_REGION(data, size);
    return data;
}

/* True if the bytes in front of `data` are as `open_place` left them. */
__attribute__((no_sanitize("address"))) static inline bool intact(const uint8_t *data)
{
    for (size_t i = 1; i <= GRANULE; i++) {
        if (*(const volatile uint8_t *)(data - i) != CANARY)
            return false;
    }
    return true;
}

/* Ends the run if something is wrong: libFuzzer saves the input. */
static inline void expect(bool right, const char *what, const char *variant)
{
    if (right)
        return;
    fprintf(stderr, "%s: %s\n", what, variant);
    abort();
}

#endif
