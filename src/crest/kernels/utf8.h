/* UTF-8 validation (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF), whole or in chunks.
 *
 * Owns the streaming state that survives from fragment to fragment (RFC 6455 section 8.1) and the validator's variants.
 * Must not know what a message or a Python object is. Nothing outside [data, data + size) is read.
 *
 * A "sequence" is the one to four bytes that encode a character. The vector variants follow J. Keiser and D. Lemire,
 * "Validating UTF-8 In Less Than One Instruction Per Byte" (2020): the fault tables below say how.
 */

#ifndef CREST_UTF8_H
#define CREST_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cpu.h"

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
#define CREST_UTF8_VARIANTS 3

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

/* Whether `count` 8-byte words hold no byte above 0x7F. */
static inline bool crest_utf8_ascii_words(const uint8_t *data, size_t count)
{
    uint64_t seen = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t word;
        memcpy(&word, data + 8 * i, 8);
        seen |= word;
    }
    return (seen & 0x8080808080808080u) == 0;
}

/* The length of the valid sequence of two or more bytes at `data`, of which `left` are there: 0 if there is none. */
static inline size_t crest_utf8_sequence(const uint8_t *data, size_t left)
{
    uint8_t lead = data[0];
    if (left < 2 || (data[1] & 0xC0) != 0x80)
        return 0;
    if (lead < 0xE0)
        return lead >= 0xC2 ? 2 : 0;
    if (left < 3 || (data[2] & 0xC0) != 0x80)
        return 0;
    unsigned upper = (unsigned)(lead & 0x0F) << 6 | (data[1] & 0x3F);
    if (lead < 0xF0)
        return upper >= 0x0800 >> 6 && (upper < 0xD800 >> 6 || upper > 0xDFFF >> 6) ? 3 : 0;
    if (left < 4 || (data[3] & 0xC0) != 0x80)
        return 0;
    return upper >= 0x10000 >> 12 && upper <= 0x10FFFF >> 12 ? 4 : 0;
}

/* How many bytes of `data` come before its first sequence that is invalid or unfinished: `size` if there is none. */
static inline size_t crest_utf8_valid_prefix(const uint8_t *data, size_t size)
{
    size_t i = 0;
    while (i < size) {
        while (size - i >= 8 && crest_utf8_ascii_words(data + i, 1))
            i += 8;
        while (i < size && data[i] < 0x80)
            i++;
        while (i < size && data[i] >= 0x80) {
            size_t length = crest_utf8_sequence(data + i, size - i);
            if (length == 0)
                return i;
            i += length;
        }
    }
    return size;
}

static inline bool crest_utf8_validate_scalar(const uint8_t *data, size_t size)
{
    return crest_utf8_valid_prefix(data, size) == size;
}

/* How many bytes at the end begin a sequence longer than what is there: 0 if the last one has all it needs. */
static inline size_t crest_utf8_unfinished(const uint8_t *data, size_t size)
{
    for (size_t seen = 1; seen <= 3 && seen <= size; seen++) {
        uint8_t byte = data[size - seen];
        if (byte < 0x80)
            return 0;
        if (byte >= 0xC0)
            return (size_t)2 + (byte >= 0xE0) + (byte >= 0xF0) > seen ? seen : 0;
    }
    return 0;
}

#if CREST_X86 || CREST_NEON
/* What is wrong with a byte, given the one before it, shows in three nibbles: both of the one before and its own high
 * one. For each nibble a table says which faults it permits; a fault is what all three permit.
 *
 * A continuation byte after another looks wrong to the tables (REPEATED). It is right exactly if it comes two after a
 * lead of three or four bytes, or three after one of four; two saturating subtractions find those, in the top bit. The
 * XOR of both findings is left with sequences continued too far or not far enough.
 */
enum {
    CREST_UTF8_UNCONTINUED = 1 << 0,   /* a lead, then no continuation byte */
    CREST_UTF8_UNLED = 1 << 1,         /* ASCII, then a continuation byte */
    CREST_UTF8_OVERLONG_2 = 1 << 2,    /* C0 or C1 */
    CREST_UTF8_OVERLONG_3 = 1 << 3,    /* E0, then 80-9F */
    CREST_UTF8_SURROGATE = 1 << 4,     /* ED, then A0-BF */
    CREST_UTF8_TOO_LARGE = 1 << 5,     /* F4 or above, then 90-BF */
    CREST_UTF8_OUT_OF_RANGE = 1 << 6,  /* F0 (overlong), or F5 or above (too large), then 80-8F */
    CREST_UTF8_REPEATED = 1 << 7,      /* two continuation bytes */

    /* On these the low nibble of the byte before has no say. */
    CREST_UTF8_ANY = CREST_UTF8_UNCONTINUED | CREST_UTF8_UNLED | CREST_UTF8_REPEATED,
    CREST_UTF8_ABOVE_F4 = CREST_UTF8_ANY | CREST_UTF8_TOO_LARGE | CREST_UTF8_OUT_OF_RANGE,
    /* These are faults of a continuation byte whatever its low bits. */
    CREST_UTF8_CONTINUED = CREST_UTF8_UNLED | CREST_UTF8_OVERLONG_2 | CREST_UTF8_REPEATED,
};

static const uint8_t crest_utf8_before_high[16] = {
    CREST_UTF8_UNLED,    CREST_UTF8_UNLED,    CREST_UTF8_UNLED,
    CREST_UTF8_UNLED,    CREST_UTF8_UNLED,    CREST_UTF8_UNLED,
    CREST_UTF8_UNLED,    CREST_UTF8_UNLED,    CREST_UTF8_REPEATED,
    CREST_UTF8_REPEATED, CREST_UTF8_REPEATED, CREST_UTF8_REPEATED,
    /* C */ CREST_UTF8_UNCONTINUED | CREST_UTF8_OVERLONG_2,
    /* D */ CREST_UTF8_UNCONTINUED,
    /* E */ CREST_UTF8_UNCONTINUED | CREST_UTF8_OVERLONG_3 | CREST_UTF8_SURROGATE,
    /* F */ CREST_UTF8_UNCONTINUED | CREST_UTF8_TOO_LARGE | CREST_UTF8_OUT_OF_RANGE,
};

static const uint8_t crest_utf8_before_low[16] = {
    /* 0 */ CREST_UTF8_ANY | CREST_UTF8_OVERLONG_2 | CREST_UTF8_OVERLONG_3 | CREST_UTF8_OUT_OF_RANGE,
    /* 1 */ CREST_UTF8_ANY | CREST_UTF8_OVERLONG_2,
    CREST_UTF8_ANY,
    CREST_UTF8_ANY,
    /* 4 */ CREST_UTF8_ANY | CREST_UTF8_TOO_LARGE,
    CREST_UTF8_ABOVE_F4, CREST_UTF8_ABOVE_F4, CREST_UTF8_ABOVE_F4, CREST_UTF8_ABOVE_F4,
    CREST_UTF8_ABOVE_F4, CREST_UTF8_ABOVE_F4, CREST_UTF8_ABOVE_F4, CREST_UTF8_ABOVE_F4,
    /* D */ CREST_UTF8_ABOVE_F4 | CREST_UTF8_SURROGATE,
    CREST_UTF8_ABOVE_F4, CREST_UTF8_ABOVE_F4,
};

static const uint8_t crest_utf8_own_high[16] = {
    CREST_UTF8_UNCONTINUED, CREST_UTF8_UNCONTINUED, CREST_UTF8_UNCONTINUED, CREST_UTF8_UNCONTINUED,
    CREST_UTF8_UNCONTINUED, CREST_UTF8_UNCONTINUED, CREST_UTF8_UNCONTINUED, CREST_UTF8_UNCONTINUED,
    /* 8 */ CREST_UTF8_CONTINUED | CREST_UTF8_OVERLONG_3 | CREST_UTF8_OUT_OF_RANGE,
    /* 9 */ CREST_UTF8_CONTINUED | CREST_UTF8_OVERLONG_3 | CREST_UTF8_TOO_LARGE,
    /* A */ CREST_UTF8_CONTINUED | CREST_UTF8_SURROGATE | CREST_UTF8_TOO_LARGE,
    /* B */ CREST_UTF8_CONTINUED | CREST_UTF8_SURROGATE | CREST_UTF8_TOO_LARGE,
    CREST_UTF8_UNCONTINUED, CREST_UTF8_UNCONTINUED, CREST_UTF8_UNCONTINUED, CREST_UTF8_UNCONTINUED,
};

/* Subtracted with saturation, these leave the top bit set exactly in leads of three bytes or more, and of four. */
enum { CREST_UTF8_BELOW_LEAD_3 = 0xE0 - 0x80, CREST_UTF8_BELOW_LEAD_4 = 0xF0 - 0x80 };
#endif

#if CREST_X86
CREST_TARGET("ssse3")
static inline __m128i crest_ssse3_table(const uint8_t table[16], __m128i nibbles)
{
    __m128i low = _mm_and_si128(nibbles, _mm_set1_epi8(0x0F));
    return _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)table), low);
}

/* Nonzero bytes where `block` is invalid; the others are what stands one, two and three bytes before it. */
CREST_TARGET("ssse3")
static inline __m128i crest_ssse3_faults(__m128i block, __m128i one, __m128i two, __m128i three)
{
    __m128i before_high = crest_ssse3_table(crest_utf8_before_high, _mm_srli_epi16(one, 4));
    __m128i before_low = crest_ssse3_table(crest_utf8_before_low, one);
    __m128i own_high = crest_ssse3_table(crest_utf8_own_high, _mm_srli_epi16(block, 4));
    __m128i third = _mm_subs_epu8(two, _mm_set1_epi8(CREST_UTF8_BELOW_LEAD_3));
    __m128i fourth = _mm_subs_epu8(three, _mm_set1_epi8(CREST_UTF8_BELOW_LEAD_4));
    __m128i due = _mm_and_si128(_mm_or_si128(third, fourth), _mm_set1_epi8((char)0x80));
    return _mm_xor_si128(_mm_and_si128(_mm_and_si128(before_high, before_low), own_high), due);
}

/* The 16 bytes at `data`, which needs three before it. */
CREST_TARGET("ssse3") static inline __m128i crest_ssse3_faults_at(const uint8_t *data)
{
    return crest_ssse3_faults(_mm_loadu_si128((const __m128i *)data), _mm_loadu_si128((const __m128i *)(data - 1)),
                              _mm_loadu_si128((const __m128i *)(data - 2)),
                              _mm_loadu_si128((const __m128i *)(data - 3)));
}

CREST_TARGET("ssse3") static inline bool crest_ssse3_ascii64(const uint8_t *data)
{
    const __m128i *at = (const __m128i *)data;
    __m128i early = _mm_or_si128(_mm_loadu_si128(at), _mm_loadu_si128(at + 1));
    __m128i late = _mm_or_si128(_mm_loadu_si128(at + 2), _mm_loadu_si128(at + 3));
    return _mm_movemask_epi8(_mm_or_si128(early, late)) == 0;
}

CREST_TARGET("ssse3") static inline bool crest_utf8_validate_ssse3(const uint8_t *data, size_t size)
{
    if (size < 16 + 3)
        return crest_utf8_validate_scalar(data, size);
    __m128i first = _mm_loadu_si128((const __m128i *)data);
    __m128i faults = crest_ssse3_faults(first, _mm_slli_si128(first, 1), _mm_slli_si128(first, 2),
                                        _mm_slli_si128(first, 3));
    size_t i = 16;
    for (; size - i >= 64; i += 64) {
        if (crest_ssse3_ascii64(data + i)) {
            if (crest_utf8_unfinished(data, i))
                return false;
            continue;
        }
        __m128i early = _mm_or_si128(crest_ssse3_faults_at(data + i), crest_ssse3_faults_at(data + i + 16));
        __m128i late = _mm_or_si128(crest_ssse3_faults_at(data + i + 32), crest_ssse3_faults_at(data + i + 48));
        faults = _mm_or_si128(faults, _mm_or_si128(early, late));
    }
    for (; size - i >= 16; i += 16)
        faults = _mm_or_si128(faults, crest_ssse3_faults_at(data + i));
    /* The last block may overlap the one before: what a byte's faults are does not depend on where its block begins. */
    faults = _mm_or_si128(faults, crest_ssse3_faults_at(data + size - 16));
    if (_mm_movemask_epi8(_mm_cmpeq_epi8(faults, _mm_setzero_si128())) != 0xFFFF)
        return false;
    return !crest_utf8_unfinished(data, size);
}

CREST_TARGET("avx2")
static inline __m256i crest_avx2_table(const uint8_t table[16], __m256i nibbles)
{
    __m256i low = _mm256_and_si256(nibbles, _mm256_set1_epi8(0x0F));
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)table)), low);
}

CREST_TARGET("avx2")
static inline __m256i crest_avx2_faults(__m256i block, __m256i one, __m256i two, __m256i three)
{
    __m256i before_high = crest_avx2_table(crest_utf8_before_high, _mm256_srli_epi16(one, 4));
    __m256i before_low = crest_avx2_table(crest_utf8_before_low, one);
    __m256i own_high = crest_avx2_table(crest_utf8_own_high, _mm256_srli_epi16(block, 4));
    __m256i third = _mm256_subs_epu8(two, _mm256_set1_epi8(CREST_UTF8_BELOW_LEAD_3));
    __m256i fourth = _mm256_subs_epu8(three, _mm256_set1_epi8(CREST_UTF8_BELOW_LEAD_4));
    __m256i due = _mm256_and_si256(_mm256_or_si256(third, fourth), _mm256_set1_epi8((char)0x80));
    return _mm256_xor_si256(_mm256_and_si256(_mm256_and_si256(before_high, before_low), own_high), due);
}

CREST_TARGET("avx2") static inline __m256i crest_avx2_block(const uint8_t *data)
{
    return _mm256_loadu_si256((const __m256i *)data);
}

CREST_TARGET("avx2") static inline __m256i crest_avx2_faults_at(const uint8_t *data)
{
    return crest_avx2_faults(crest_avx2_block(data), crest_avx2_block(data - 1), crest_avx2_block(data - 2),
                             crest_avx2_block(data - 3));
}

CREST_TARGET("avx2") static inline bool crest_utf8_validate_avx2(const uint8_t *data, size_t size)
{
    if (size < 32 + 3)
        return crest_utf8_validate_ssse3(data, size);
    __m256i first = crest_avx2_block(data);
    /* alignr shifts each half by itself: this is what the halves of `first` have before them. */
    __m256i before = _mm256_permute2x128_si256(first, first, 0x08);
    __m256i faults = crest_avx2_faults(first, _mm256_alignr_epi8(first, before, 15),
                                       _mm256_alignr_epi8(first, before, 14), _mm256_alignr_epi8(first, before, 13));
    size_t i = 32;
    for (; size - i >= 64; i += 64) {
        if (_mm256_movemask_epi8(_mm256_or_si256(crest_avx2_block(data + i), crest_avx2_block(data + i + 32))) == 0) {
            if (crest_utf8_unfinished(data, i))
                return false;
            continue;
        }
        __m256i both = _mm256_or_si256(crest_avx2_faults_at(data + i), crest_avx2_faults_at(data + i + 32));
        faults = _mm256_or_si256(faults, both);
    }
    if (size - i >= 32)
        faults = _mm256_or_si256(faults, crest_avx2_faults_at(data + i));
    faults = _mm256_or_si256(faults, crest_avx2_faults_at(data + size - 32));
    return _mm256_testz_si256(faults, faults) && !crest_utf8_unfinished(data, size);
}
#endif

#if CREST_NEON
static inline uint8x16_t crest_neon_faults(uint8x16_t block, uint8x16_t one, uint8x16_t two, uint8x16_t three)
{
    uint8x16_t before_high = vqtbl1q_u8(vld1q_u8(crest_utf8_before_high), vshrq_n_u8(one, 4));
    uint8x16_t before_low = vqtbl1q_u8(vld1q_u8(crest_utf8_before_low), vandq_u8(one, vdupq_n_u8(0x0F)));
    uint8x16_t own_high = vqtbl1q_u8(vld1q_u8(crest_utf8_own_high), vshrq_n_u8(block, 4));
    uint8x16_t third = vqsubq_u8(two, vdupq_n_u8(CREST_UTF8_BELOW_LEAD_3));
    uint8x16_t fourth = vqsubq_u8(three, vdupq_n_u8(CREST_UTF8_BELOW_LEAD_4));
    uint8x16_t due = vandq_u8(vorrq_u8(third, fourth), vdupq_n_u8(0x80));
    return veorq_u8(vandq_u8(vandq_u8(before_high, before_low), own_high), due);
}

static inline uint8x16_t crest_neon_faults_at(const uint8_t *data)
{
    return crest_neon_faults(vld1q_u8(data), vld1q_u8(data - 1), vld1q_u8(data - 2), vld1q_u8(data - 3));
}

static inline bool crest_utf8_validate_neon(const uint8_t *data, size_t size)
{
    if (size < 16 + 3)
        return crest_utf8_validate_scalar(data, size);
    uint8x16_t first = vld1q_u8(data), none = vdupq_n_u8(0);
    uint8x16_t faults = crest_neon_faults(first, vextq_u8(none, first, 15), vextq_u8(none, first, 14),
                                          vextq_u8(none, first, 13));
    size_t i = 16;
    for (; size - i >= 64; i += 64) {
        uint8x16_t seen = vorrq_u8(vorrq_u8(vld1q_u8(data + i), vld1q_u8(data + i + 16)),
                                   vorrq_u8(vld1q_u8(data + i + 32), vld1q_u8(data + i + 48)));
        if (vmaxvq_u8(seen) < 0x80) {
            if (crest_utf8_unfinished(data, i))
                return false;
            continue;
        }
        uint8x16_t early = vorrq_u8(crest_neon_faults_at(data + i), crest_neon_faults_at(data + i + 16));
        uint8x16_t late = vorrq_u8(crest_neon_faults_at(data + i + 32), crest_neon_faults_at(data + i + 48));
        faults = vorrq_u8(faults, vorrq_u8(early, late));
    }
    for (; size - i >= 16; i += 16)
        faults = vorrq_u8(faults, crest_neon_faults_at(data + i));
    faults = vorrq_u8(faults, crest_neon_faults_at(data + size - 16));
    return vmaxvq_u8(faults) == 0 && !crest_utf8_unfinished(data, size);
}
#endif

/* Fills `found` with what this CPU can run, the fastest last, and returns how many those are. */
static inline size_t crest_utf8_variants(crest_utf8_variant found[CREST_UTF8_VARIANTS])
{
    size_t count = 0;
    found[count++] = (crest_utf8_variant){"scalar", crest_utf8_validate_scalar};
#if CREST_X86
    if (crest_cpu_has_ssse3())
        found[count++] = (crest_utf8_variant){"ssse3", crest_utf8_validate_ssse3};
    if (crest_cpu_has_avx2())
        found[count++] = (crest_utf8_variant){"avx2", crest_utf8_validate_avx2};
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

/* Whether `data` is valid UTF-8 as a whole. */
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

/* Whether what was fed is valid and ends with a whole sequence. */
static inline bool crest_utf8_finish(const crest_utf8 *state)
{
    return !state->failed && !state->missing;
}

/* Where in the chunk whose feed failed the invalid sequence begins: below 0 if it began that much before the chunk. */
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
