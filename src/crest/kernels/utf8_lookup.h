/* Whole text, a vector at a time: for SSSE3, AVX2, AVX-512 and NEON, after J. Keiser and D. Lemire, "Validating UTF-8
 * In Less Than One Instruction Per Byte" (2020). The fault tables say how. Nothing outside [data, data + size) is
 * read. */

#ifndef CREST_UTF8_LOOKUP_H
#define CREST_UTF8_LOOKUP_H

#include "cpu.h"
#include "utf8_scalar.h"

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

/* Returns nonzero bytes where `block` is invalid; `one`, `two` and `three` stand that many bytes before it. */
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

/* Judges the 16 bytes at `data`, which needs three before it. */
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
    /* The last block may overlap the one before: a byte's faults do not depend on where its block begins. */
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

CREST_TARGET("avx512bw")
static inline __m512i crest_avx512_table(const uint8_t table[16], __m512i nibbles)
{
    __m512i low = _mm512_and_si512(nibbles, _mm512_set1_epi8(0x0F));
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)table)), low);
}

CREST_TARGET("avx512bw")
static inline __m512i crest_avx512_faults(__m512i block, __m512i one, __m512i two, __m512i three)
{
    __m512i before_high = crest_avx512_table(crest_utf8_before_high, _mm512_srli_epi16(one, 4));
    __m512i before_low = crest_avx512_table(crest_utf8_before_low, one);
    __m512i own_high = crest_avx512_table(crest_utf8_own_high, _mm512_srli_epi16(block, 4));
    __m512i third = _mm512_subs_epu8(two, _mm512_set1_epi8(CREST_UTF8_BELOW_LEAD_3));
    __m512i fourth = _mm512_subs_epu8(three, _mm512_set1_epi8(CREST_UTF8_BELOW_LEAD_4));
    __m512i due = _mm512_and_si512(_mm512_or_si512(third, fourth), _mm512_set1_epi8((char)0x80));
    return _mm512_xor_si512(_mm512_and_si512(_mm512_and_si512(before_high, before_low), own_high), due);
}

CREST_TARGET("avx512bw") static inline __m512i crest_avx512_faults_at(const uint8_t *data)
{
    return crest_avx512_faults(_mm512_loadu_si512(data), _mm512_loadu_si512(data - 1), _mm512_loadu_si512(data - 2),
                               _mm512_loadu_si512(data - 3));
}

CREST_TARGET("avx512bw") static inline bool crest_utf8_validate_avx512(const uint8_t *data, size_t size)
{
    if (size < 64 + 3)
        return crest_utf8_validate_avx2(data, size);
    __m512i first = _mm512_loadu_si512(data);
    /* As with AVX2: what the quarters of `first` have before them. */
    __m512i before = _mm512_alignr_epi32(first, _mm512_setzero_si512(), 12);
    __m512i faults = crest_avx512_faults(first, _mm512_alignr_epi8(first, before, 15),
                                         _mm512_alignr_epi8(first, before, 14), _mm512_alignr_epi8(first, before, 13));
    for (size_t i = 64; size - i >= 64; i += 64) {
        if (_mm512_movepi8_mask(_mm512_loadu_si512(data + i)) != 0)
            faults = _mm512_or_si512(faults, crest_avx512_faults_at(data + i));
        else if (crest_utf8_unfinished(data, i))
            return false;
    }
    faults = _mm512_or_si512(faults, crest_avx512_faults_at(data + size - 64));
    return _mm512_test_epi8_mask(faults, faults) == 0 && !crest_utf8_unfinished(data, size);
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

#endif
