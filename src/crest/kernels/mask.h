/* Unmasking (RFC 6455 section 5.3): XOR with the masking key, and the OR of the result, in one pass.
 *
 * Owns crest_unmask and its variants. Must not know what a frame or a Python object is.
 *
 * Contract of every variant:
 *   - dst[i] = src[i] ^ key[(offset + i) & 3] for i in [0, size): offset is how many bytes of the payload came before;
 *   - the result is the bitwise OR of the bytes written, 0 for none: below 0x80 exactly if they are ASCII;
 *   - dst == src is allowed, any other overlap is not;
 *   - nothing outside [0, size) is read or written, and neither pointer needs an alignment.
 *
 * A size that the block length does not divide ends with blocks that overlap the ones before. The overlapping blocks
 * are loaded before anything is stored: in place, the bytes under them are unmasked by the time they are reached.
 *
 * The vector variants are intrinsics: the portable loop takes up to twice as long even where gcc 12 vectorizes it at
 * -O3 for the same target. benches/bench_kernels.py has it as "scalar".
 */

#ifndef CREST_MASK_H
#define CREST_MASK_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cpu.h"

typedef uint8_t (*crest_unmask_function)(uint8_t *dst, const uint8_t *src, size_t size, const uint8_t key[4],
                                         size_t offset);

typedef struct {
    const char *name;
    crest_unmask_function call;
} crest_unmask_variant;

/* How many variants a CPU can have at most. */
#define CREST_UNMASK_VARIANTS 3

/* The word whose bytes, in memory order, come `count` later in the endless repetition of the word's own bytes. */
static inline uint32_t crest_key_advance(uint32_t word, size_t count)
{
    uint64_t twice = (uint64_t)word << 32 | word;
    unsigned bits = (unsigned)(count & 3) * 8;
    return CREST_BIG_ENDIAN ? (uint32_t)(twice << bits >> 32) : (uint32_t)(twice >> bits);
}

static inline uint32_t crest_key_word(const uint8_t key[4], size_t offset)
{
    uint32_t word;
    memcpy(&word, key, 4);
    return crest_key_advance(word, offset);
}

static inline uint64_t crest_load64(const uint8_t *src)
{
    uint64_t word;
    memcpy(&word, src, 8);
    return word;
}

static inline uint32_t crest_load32(const uint8_t *src)
{
    uint32_t word;
    memcpy(&word, src, 4);
    return word;
}

static inline uint8_t crest_or_of_bytes(uint64_t word)
{
    word |= word >> 32;
    word |= word >> 16;
    return (uint8_t)(word | word >> 8);
}

/* Unmasks at most 16 bytes, with two overlapping words. `word` is the key as the first byte meets it. */
static inline uint8_t crest_unmask_to_16(uint8_t *dst, const uint8_t *src, size_t size, uint32_t word)
{
    if (size >= 8) {
        uint32_t late = crest_key_advance(word, size);
        uint64_t last = crest_load64(src + size - 8) ^ ((uint64_t)late << 32 | late);
        uint64_t first = crest_load64(src) ^ ((uint64_t)word << 32 | word);
        memcpy(dst, &first, 8);
        memcpy(dst + size - 8, &last, 8);
        return crest_or_of_bytes(first | last);
    }
    if (size >= 4) {
        uint32_t last = crest_load32(src + size - 4) ^ crest_key_advance(word, size);
        uint32_t first = crest_load32(src) ^ word;
        memcpy(dst, &first, 4);
        memcpy(dst + size - 4, &last, 4);
        return crest_or_of_bytes(first | last);
    }
    uint8_t bytes[4], seen = 0;
    memcpy(bytes, &word, 4);
    for (size_t i = 0; i < size; i++) {
        dst[i] = src[i] ^ bytes[i];
        seen |= dst[i];
    }
    return seen;
}

static inline uint8_t crest_unmask_scalar(uint8_t *dst, const uint8_t *src, size_t size, const uint8_t key[4],
                                          size_t offset)
{
    uint32_t word = crest_key_word(key, offset);
    uint64_t twice = (uint64_t)word << 32 | word, seen = 0;
    size_t i = 0;
    for (; size - i > 16; i += 8) {
        uint64_t block = crest_load64(src + i) ^ twice;
        memcpy(dst + i, &block, 8);
        seen |= block;
    }
    return crest_or_of_bytes(seen) | crest_unmask_to_16(dst + i, src + i, size - i, word);
}

#if CREST_X86
static inline __m128i crest_sse2_load(const uint8_t *src, __m128i key)
{
    return _mm_xor_si128(_mm_loadu_si128((const __m128i *)src), key);
}

static inline void crest_sse2_store(uint8_t *dst, __m128i block)
{
    _mm_storeu_si128((__m128i *)dst, block);
}

static inline uint8_t crest_sse2_or(__m128i seen)
{
    seen = _mm_or_si128(seen, _mm_unpackhi_epi64(seen, seen));
    return crest_or_of_bytes((uint64_t)_mm_cvtsi128_si64(seen));
}

/* Unmasks at most 64 bytes. */
static inline uint8_t crest_unmask_to_64(uint8_t *dst, const uint8_t *src, size_t size, const uint8_t key[4],
                                         size_t offset)
{
    uint32_t word = crest_key_word(key, offset);
    if (size < 16)
        return crest_unmask_to_16(dst, src, size, word);
    __m128i early = _mm_set1_epi32((int)word), late = _mm_set1_epi32((int)crest_key_advance(word, size));
    __m128i first = crest_sse2_load(src, early), last = crest_sse2_load(src + size - 16, late);
    __m128i seen = _mm_or_si128(first, last);
    if (size > 32) {
        __m128i second = crest_sse2_load(src + 16, early), third = crest_sse2_load(src + size - 32, late);
        crest_sse2_store(dst + 16, second);
        crest_sse2_store(dst + size - 32, third);
        seen = _mm_or_si128(seen, _mm_or_si128(second, third));
    }
    crest_sse2_store(dst, first);
    crest_sse2_store(dst + size - 16, last);
    return crest_sse2_or(seen);
}

static inline uint8_t crest_unmask_sse2(uint8_t *dst, const uint8_t *src, size_t size, const uint8_t key[4],
                                        size_t offset)
{
    if (size <= 64)
        return crest_unmask_to_64(dst, src, size, key, offset);
    uint32_t word = crest_key_word(key, offset);
    __m128i early = _mm_set1_epi32((int)word), late = _mm_set1_epi32((int)crest_key_advance(word, size));
    const uint8_t *end = src + size - 64;
    __m128i e = crest_sse2_load(end, late), f = crest_sse2_load(end + 16, late);
    __m128i g = crest_sse2_load(end + 32, late), h = crest_sse2_load(end + 48, late);
    __m128i seen = _mm_or_si128(_mm_or_si128(e, f), _mm_or_si128(g, h));
    for (size_t i = 0; i < size - 64; i += 64) {
        __m128i a = crest_sse2_load(src + i, early), b = crest_sse2_load(src + i + 16, early);
        __m128i c = crest_sse2_load(src + i + 32, early), d = crest_sse2_load(src + i + 48, early);
        crest_sse2_store(dst + i, a);
        crest_sse2_store(dst + i + 16, b);
        crest_sse2_store(dst + i + 32, c);
        crest_sse2_store(dst + i + 48, d);
        seen = _mm_or_si128(seen, _mm_or_si128(_mm_or_si128(a, b), _mm_or_si128(c, d)));
    }
    crest_sse2_store(dst + size - 64, e);
    crest_sse2_store(dst + size - 48, f);
    crest_sse2_store(dst + size - 32, g);
    crest_sse2_store(dst + size - 16, h);
    return crest_sse2_or(seen);
}

CREST_TARGET("avx2") static inline __m256i crest_avx2_load(const uint8_t *src, __m256i key)
{
    return _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)src), key);
}

CREST_TARGET("avx2") static inline void crest_avx2_store(uint8_t *dst, __m256i block)
{
    _mm256_storeu_si256((__m256i *)dst, block);
}

CREST_TARGET("avx2")
static inline uint8_t crest_unmask_avx2(uint8_t *dst, const uint8_t *src, size_t size, const uint8_t key[4],
                                        size_t offset)
{
    if (size <= 64)
        return crest_unmask_to_64(dst, src, size, key, offset);
    uint32_t word = crest_key_word(key, offset);
    __m256i early = _mm256_set1_epi32((int)word), late = _mm256_set1_epi32((int)crest_key_advance(word, size));
    __m256i g = crest_avx2_load(src + size - 64, late), h = crest_avx2_load(src + size - 32, late);
    __m256i seen = _mm256_or_si256(g, h);
    if (size <= 128) {
        __m256i a = crest_avx2_load(src, early), b = crest_avx2_load(src + 32, early);
        crest_avx2_store(dst, a);
        crest_avx2_store(dst + 32, b);
        seen = _mm256_or_si256(seen, _mm256_or_si256(a, b));
    } else {
        __m256i e = crest_avx2_load(src + size - 128, late), f = crest_avx2_load(src + size - 96, late);
        seen = _mm256_or_si256(seen, _mm256_or_si256(e, f));
        for (size_t i = 0; i < size - 128; i += 128) {
            __m256i a = crest_avx2_load(src + i, early), b = crest_avx2_load(src + i + 32, early);
            __m256i c = crest_avx2_load(src + i + 64, early), d = crest_avx2_load(src + i + 96, early);
            crest_avx2_store(dst + i, a);
            crest_avx2_store(dst + i + 32, b);
            crest_avx2_store(dst + i + 64, c);
            crest_avx2_store(dst + i + 96, d);
            seen = _mm256_or_si256(seen, _mm256_or_si256(_mm256_or_si256(a, b), _mm256_or_si256(c, d)));
        }
        crest_avx2_store(dst + size - 128, e);
        crest_avx2_store(dst + size - 96, f);
    }
    crest_avx2_store(dst + size - 64, g);
    crest_avx2_store(dst + size - 32, h);
    return crest_sse2_or(_mm_or_si128(_mm256_castsi256_si128(seen), _mm256_extracti128_si256(seen, 1)));
}
#endif

#if CREST_NEON
static inline uint8x16_t crest_neon_key(uint32_t word)
{
    return vreinterpretq_u8_u32(vdupq_n_u32(word));
}

static inline uint8x16_t crest_neon_load(const uint8_t *src, uint8x16_t key)
{
    return veorq_u8(vld1q_u8(src), key);
}

static inline uint8_t crest_neon_or(uint8x16_t seen)
{
    uint64x2_t halves = vreinterpretq_u64_u8(seen);
    return crest_or_of_bytes(vgetq_lane_u64(halves, 0) | vgetq_lane_u64(halves, 1));
}

/* Unmasks at most 64 bytes. */
static inline uint8_t crest_unmask_to_64(uint8_t *dst, const uint8_t *src, size_t size, const uint8_t key[4],
                                         size_t offset)
{
    uint32_t word = crest_key_word(key, offset);
    if (size < 16)
        return crest_unmask_to_16(dst, src, size, word);
    uint8x16_t early = crest_neon_key(word), late = crest_neon_key(crest_key_advance(word, size));
    uint8x16_t first = crest_neon_load(src, early), last = crest_neon_load(src + size - 16, late);
    uint8x16_t seen = vorrq_u8(first, last);
    if (size > 32) {
        uint8x16_t second = crest_neon_load(src + 16, early), third = crest_neon_load(src + size - 32, late);
        vst1q_u8(dst + 16, second);
        vst1q_u8(dst + size - 32, third);
        seen = vorrq_u8(seen, vorrq_u8(second, third));
    }
    vst1q_u8(dst, first);
    vst1q_u8(dst + size - 16, last);
    return crest_neon_or(seen);
}

static inline uint8_t crest_unmask_neon(uint8_t *dst, const uint8_t *src, size_t size, const uint8_t key[4],
                                        size_t offset)
{
    if (size <= 64)
        return crest_unmask_to_64(dst, src, size, key, offset);
    uint32_t word = crest_key_word(key, offset);
    uint8x16_t early = crest_neon_key(word), late = crest_neon_key(crest_key_advance(word, size));
    const uint8_t *end = src + size - 64;
    uint8x16_t e = crest_neon_load(end, late), f = crest_neon_load(end + 16, late);
    uint8x16_t g = crest_neon_load(end + 32, late), h = crest_neon_load(end + 48, late);
    uint8x16_t seen = vorrq_u8(vorrq_u8(e, f), vorrq_u8(g, h));
    for (size_t i = 0; i < size - 64; i += 64) {
        uint8x16_t a = crest_neon_load(src + i, early), b = crest_neon_load(src + i + 16, early);
        uint8x16_t c = crest_neon_load(src + i + 32, early), d = crest_neon_load(src + i + 48, early);
        vst1q_u8(dst + i, a);
        vst1q_u8(dst + i + 16, b);
        vst1q_u8(dst + i + 32, c);
        vst1q_u8(dst + i + 48, d);
        seen = vorrq_u8(seen, vorrq_u8(vorrq_u8(a, b), vorrq_u8(c, d)));
    }
    vst1q_u8(dst + size - 64, e);
    vst1q_u8(dst + size - 48, f);
    vst1q_u8(dst + size - 32, g);
    vst1q_u8(dst + size - 16, h);
    return crest_neon_or(seen);
}
#endif

/* Fills `found` with the variants that this CPU can run, the fastest last, and returns how many those are. */
static inline size_t crest_unmask_variants(crest_unmask_variant found[CREST_UNMASK_VARIANTS])
{
    size_t count = 0;
    found[count++] = (crest_unmask_variant){"scalar", crest_unmask_scalar};
#if CREST_X86
    found[count++] = (crest_unmask_variant){"sse2", crest_unmask_sse2};
    if (crest_cpu_has_avx2())
        found[count++] = (crest_unmask_variant){"avx2", crest_unmask_avx2};
#elif CREST_NEON
    found[count++] = (crest_unmask_variant){"neon", crest_unmask_neon};
#endif
    return count;
}

/* One for each translation unit; before crest_mask_init it is slow and right. */
static crest_unmask_function crest_unmask_selected = crest_unmask_scalar;

/* Chooses this translation unit's variant: call it once, when the module is imported. */
static inline void crest_mask_init(void)
{
    crest_unmask_variant found[CREST_UNMASK_VARIANTS];
    crest_unmask_selected = found[crest_unmask_variants(found) - 1].call;
}

/* Unmasks by the fastest variant. Most payloads are short: those go inline, in vectors that need no dispatch. */
static inline uint8_t crest_unmask(uint8_t *dst, const uint8_t *src, size_t size, const uint8_t key[4], size_t offset)
{
#if CREST_X86 || CREST_NEON
    if (size <= 64)
        return crest_unmask_to_64(dst, src, size, key, offset);
#endif
    return crest_unmask_selected(dst, src, size, key, offset);
}

#endif
