/* UTF-8 validation (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF), whole or in chunks.
 *
 * Owns the streaming state that survives from fragment to fragment (RFC 6455 section 8.1) and the validator's variants.
 * Must not know what a message or a Python object is. Nothing outside [data, data + size) is read.
 *
 * A "sequence" is the one to four bytes that encode a character. */

#ifndef CREST_UTF8_H
#define CREST_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "utf8_lookup.h"

/* Where a stream of chunks stands. crest_utf8_start makes a fresh one. */
typedef struct {
    uint8_t missing; /* continuation bytes that the last sequence still lacks */
    uint8_t seen;    /* its bytes so far */
    uint8_t low;     /* the range that its next byte must be in */
    uint8_t high;
    uint8_t failed; /* once invalid, a stream stays so */
} crest_utf8;

typedef bool (*crest_utf8_function)(const uint8_t *data, size_t size);

typedef struct {
    const char *name;
    crest_utf8_function call;
} crest_utf8_variant;

/* How many variants a CPU can have at most. */
#define CREST_UTF8_VARIANTS 4

static inline void crest_utf8_start(crest_utf8 *state)
{
    memset(state, 0, sizeof *state);
}

/* Takes one byte; false, with the state still before it, if no valid sequence has it there. */
static inline bool crest_utf8_step(crest_utf8 *state, uint8_t byte)
{
    if (state->missing) {
        if (byte < state->low || byte > state->high)
            return false;
        state->missing--;
        state->seen++;
        state->low = 0x80;
        state->high = 0xBF;
        return true;
    }
    if (byte >= 0x80 && (byte < 0xC2 || byte > 0xF4))
        return false;
    state->seen = 1;
    state->missing = (uint8_t)((byte >= 0xC2) + (byte >= 0xE0) + (byte >= 0xF0));
    /* Only the second byte can tell overlong forms (E0, F0), surrogates (ED) and what is above U+10FFFF (F4). */
    state->low = byte == 0xE0 ? 0xA0 : byte == 0xF0 ? 0x90 : 0x80;
    state->high = byte == 0xED ? 0x9F : byte == 0xF4 ? 0x8F : 0xBF;
    return true;
}

/* Fills `found` with the variants that this CPU can run, the fastest last, and returns how many those are. */
static inline size_t crest_utf8_variants(crest_utf8_variant found[CREST_UTF8_VARIANTS])
{
    size_t count = 0;
    found[count++] = (crest_utf8_variant){"scalar", crest_utf8_validate_scalar};
#if CREST_X86
    if (crest_cpu_has_ssse3())
        found[count++] = (crest_utf8_variant){"ssse3", crest_utf8_validate_ssse3};
    if (crest_cpu_has_avx2())
        found[count++] = (crest_utf8_variant){"avx2", crest_utf8_validate_avx2};
    if (crest_cpu_has_avx512())
        found[count++] = (crest_utf8_variant){"avx512", crest_utf8_validate_avx512};
#elif CREST_NEON
    found[count++] = (crest_utf8_variant){"neon", crest_utf8_validate_neon};
#endif
    return count;
}

/* One for each translation unit; before crest_utf8_init it is slow and right. */
static crest_utf8_function crest_utf8_selected = crest_utf8_validate_scalar;

/* Chooses this translation unit's variant: call it once, when the module is imported. */
static inline void crest_utf8_init(void)
{
    crest_utf8_variant found[CREST_UTF8_VARIANTS];
    crest_utf8_selected = found[crest_utf8_variants(found) - 1].call;
}

/* True if `data` is valid UTF-8 as a whole. */
static inline bool crest_utf8_validate(const uint8_t *data, size_t size)
{
    return crest_utf8_selected(data, size);
}

static inline bool crest_utf8_is_ascii(const uint8_t *data, size_t size)
{
    size_t i = 0;
    for (; size - i >= 256; i += 256) {
        if (!crest_utf8_ascii_words(data + i, 32))
            return false;
    }
    for (; size - i >= 8; i += 8) {
        if (!crest_utf8_ascii_words(data + i, 1))
            return false;
    }
    for (; i < size; i++) {
        if (data[i] >= 0x80)
            return false;
    }
    return true;
}

static inline bool crest_utf8_feed_with(crest_utf8_function validate, crest_utf8 *state, const uint8_t *data,
                                        size_t size)
{
    crest_utf8 next = *state;
    size_t i = 0, end;
    bool valid = !state->failed;
    for (; valid && next.missing && i < size; i++)
        valid = crest_utf8_step(&next, data[i]);
    end = size - crest_utf8_unfinished(data + i, size - i);
    valid = valid && validate(data + i, end - i);
    for (i = end; valid && i < size; i++)
        valid = crest_utf8_step(&next, data[i]);
    if (valid)
        *state = next;
    else
        state->failed = 1;
    return valid;
}

/* Takes the next chunk; false as soon as nothing that follows could make the bytes so far valid (section 8.1). */
static inline bool crest_utf8_feed(crest_utf8 *state, const uint8_t *data, size_t size)
{
    return crest_utf8_feed_with(crest_utf8_selected, state, data, size);
}

/* True if the bytes that were fed are valid and end with a whole sequence. */
static inline bool crest_utf8_finish(const crest_utf8 *state)
{
    return !state->failed && !state->missing;
}

/* Finds where the invalid sequence begins in the chunk whose feed failed; -n if it began n bytes before the chunk. */
static inline ptrdiff_t crest_utf8_fault_offset(const crest_utf8 *state, const uint8_t *data, size_t size)
{
    crest_utf8 next = *state;
    size_t i = 0;
    for (; next.missing && i < size; i++) {
        if (!crest_utf8_step(&next, data[i]))
            return -(ptrdiff_t)state->seen;
    }
    return (ptrdiff_t)(i + crest_utf8_valid_prefix(data + i, size - i));
}

#endif
