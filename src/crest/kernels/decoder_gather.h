/* Valid UTF-8 to code points, a vector at a time, with shuffles from a table: for SSE4.1, AVX2 and NEON.
 *
 * Each byte is looked at as if it were a lead. The same few operations for all places of a block and characters of all
 * lengths, without a branch, make one vector for each byte of a code point. Then the bytes of leads are gathered: for
 * eight places, of which some are leads, a table has the shuffle. The gathered bytes, interleaved, are the units. So
 * the time depends on how many bytes there are, and hardly on what they say.
 *
 * Computing code points everywhere and then thinning them out is R. Cameron's: "A Case Study in SIMD Text Processing
 * with Parallel Bit Streams: UTF-8 to UTF-16 Transcoding" (2008). Shuffles from a table are D. Lemire's and W. Muła's,
 * for 12 bytes at a time: "Transcoding Billions of Unicode Characters per Second with SIMD Instructions" (2022). */

#ifndef CREST_DECODER_GATHER_H
#define CREST_DECODER_GATHER_H

#include "cpu.h"
#include "decoder_scalar.h"

#if CREST_X86 || CREST_NEON
/* crest_decode_places[bits]: the places of the bits that are set, from the lowest on, as bytes in memory order. */
#define CREST_DECODE_PLACE(bits, at) \
    ((uint64_t)((bits) >> (at) & 1) * (at) << 8 * __builtin_popcount((bits) & ((1 << (at)) - 1)))
#define CREST_DECODE_PLACES(bits) \
    (CREST_DECODE_PLACE(bits, 1) | CREST_DECODE_PLACE(bits, 2) | CREST_DECODE_PLACE(bits, 3) | \
     CREST_DECODE_PLACE(bits, 4) | CREST_DECODE_PLACE(bits, 5) | CREST_DECODE_PLACE(bits, 6) | \
     CREST_DECODE_PLACE(bits, 7))
#define CREST_DECODE_4(bits) \
    CREST_DECODE_PLACES(bits), CREST_DECODE_PLACES(bits + 1), CREST_DECODE_PLACES(bits + 2), \
        CREST_DECODE_PLACES(bits + 3)
#define CREST_DECODE_16(bits) \
    CREST_DECODE_4(bits), CREST_DECODE_4(bits + 4), CREST_DECODE_4(bits + 8), CREST_DECODE_4(bits + 12)
#define CREST_DECODE_64(bits) \
    CREST_DECODE_16(bits), CREST_DECODE_16(bits + 16), CREST_DECODE_16(bits + 32), CREST_DECODE_16(bits + 48)

static const uint64_t crest_decode_places[256] = {
    CREST_DECODE_64(0),
    CREST_DECODE_64(64),
    CREST_DECODE_64(128),
    CREST_DECODE_64(192),
};

/* Bytes that a block looks ahead: a lead at its end has up to three more bytes behind it. */
enum { CREST_DECODE_AHEAD = 3 };

/* Finds `size` bytes of text: in place, or if there are fewer, a copy with zeros behind them. */
CREST_INLINE const uint8_t *crest_decode_block(const uint8_t *data, size_t left, size_t size, uint8_t *copy)
{
    if (left >= size)
        return data;
    memset(copy, 0, size);
    return memcpy(copy, data, left);
}
#endif

#if CREST_X86
#define CREST_SSE4(type) CREST_TARGET("sse4.1,popcnt") CREST_INLINE type

/* Bits 0-7, 8-15 and 16-20 of the code point of each place of a block, if it is a lead. */
typedef struct {
    __m128i low, middle, high;
} crest_sse4_codes;

CREST_SSE4(__m128i) crest_sse4_bytes(const uint8_t *data)
{
    return _mm_loadu_si128((const __m128i *)data);
}

/* 0xFF for each byte that is `least` or more. */
CREST_SSE4(__m128i) crest_sse4_from(__m128i block, uint8_t least)
{
    return _mm_cmpeq_epi8(_mm_max_epu8(block, _mm_set1_epi8((char)least)), block);
}

/* A bit for each continuation byte: as signed numbers, those are the least. */
CREST_SSE4(uint32_t) crest_sse4_continuations(__m128i block)
{
    return (uint32_t)_mm_movemask_epi8(_mm_cmplt_epi8(block, _mm_set1_epi8((char)0xC0)));
}

/* Shifts bytes, though in pairs: `kept` has no bit that comes out of the other one. */
CREST_SSE4(__m128i) crest_sse4_left(__m128i block, int count, uint8_t kept)
{
    return _mm_and_si128(_mm_slli_epi16(block, count), _mm_set1_epi8((char)kept));
}

CREST_SSE4(__m128i) crest_sse4_right(__m128i block, int count, uint8_t kept)
{
    return _mm_and_si128(_mm_srli_epi16(block, count), _mm_set1_epi8((char)kept));
}

/* A code point has its lowest six bits from the last byte of its character, and the next six from the byte before that.
 * Six more come from the byte further up, and three from the first of four. Bits that units of `width` bytes have no
 * use for stay zero. */
CREST_SSE4(crest_sse4_codes) crest_sse4_read(const uint8_t *data, unsigned width)
{
    __m128i zero = _mm_setzero_si128(), first = crest_sse4_bytes(data), second = crest_sse4_bytes(data + 1);
    __m128i last = second, before = first, upper = zero, high = zero;
    if (width > 1) {
        __m128i third = crest_sse4_bytes(data + 2), from_3 = crest_sse4_from(first, 0xE0);
        last = _mm_blendv_epi8(last, third, from_3);
        before = _mm_blendv_epi8(before, second, from_3);
        upper = _mm_and_si128(first, from_3);
        if (width > 2) {
            __m128i fourth = crest_sse4_bytes(data + 3), from_4 = crest_sse4_from(first, 0xF0);
            last = _mm_blendv_epi8(last, fourth, from_4);
            before = _mm_blendv_epi8(before, third, from_4);
            upper = _mm_blendv_epi8(upper, second, from_4);
            high = _mm_or_si128(crest_sse4_right(second, 4, 0x03), crest_sse4_left(first, 2, 0x1C));
            high = _mm_and_si128(high, from_4);
        }
    }
    __m128i low = _mm_or_si128(crest_sse4_left(before, 6, 0xC0), _mm_and_si128(last, _mm_set1_epi8(0x3F)));
    __m128i middle = _mm_or_si128(crest_sse4_right(before, 2, 0x0F), crest_sse4_left(upper, 4, 0xF0));
    /* A blend goes by top bits: those of `first` tell which bytes are not ASCII. */
    return (crest_sse4_codes){_mm_blendv_epi8(first, low, first), _mm_blendv_epi8(zero, middle, first), high};
}

/* Writes eight units: those of the leads among the eight places from `place` on, and then arbitrary ones. */
CREST_SSE4(void) crest_sse4_write(uint8_t *units, crest_sse4_codes codes, uint8_t leads, int place, unsigned width)
{
    __m128i places = _mm_loadl_epi64((const __m128i *)&crest_decode_places[leads]);
    places = _mm_or_si128(places, _mm_set1_epi8((char)place));
    __m128i low = _mm_shuffle_epi8(codes.low, places);
    if (width == 1) {
        _mm_storel_epi64((__m128i *)units, low);
        return;
    }
    low = _mm_unpacklo_epi8(low, _mm_shuffle_epi8(codes.middle, places));
    if (width == 2) {
        _mm_storeu_si128((__m128i *)units, low);
        return;
    }
    __m128i high = _mm_unpacklo_epi8(_mm_shuffle_epi8(codes.high, places), _mm_setzero_si128());
    _mm_storeu_si128((__m128i *)units, _mm_unpacklo_epi16(low, high));
    _mm_storeu_si128((__m128i *)units + 1, _mm_unpackhi_epi16(low, high));
}

/* Writes the units of a block's leads, as far as there is room, and returns how many bytes they have. */
CREST_SSE4(size_t) crest_sse4_decode_block(const uint8_t *data, uint8_t *units, size_t room, unsigned width)
{
    uint32_t leads = 0xFFFF & ~crest_sse4_continuations(crest_sse4_bytes(data));
    size_t second = (size_t)__builtin_popcount(leads & 0xFF) * width;
    size_t size = (size_t)__builtin_popcount(leads) * width;
    uint8_t spill[16 * 4], *to = second + 8 * width <= room ? units : spill;
    crest_sse4_codes codes = crest_sse4_read(data, width);
    crest_sse4_write(to, codes, (uint8_t)leads, 0, width);
    crest_sse4_write(to + second, codes, (uint8_t)(leads >> 8), 8, width);
    if (to == spill)
        memcpy(units, spill, size < room ? size : room);
    return size;
}

CREST_SSE4(void) crest_sse4_decode(const uint8_t *data, size_t size, uint8_t *units, size_t room, unsigned width)
{
    uint8_t rest[16 + CREST_DECODE_AHEAD];
    size_t i = 0, done = 0;
    for (; size - i >= sizeof rest; i += 16)
        done += crest_sse4_decode_block(data + i, units + done, room - done, width);
    for (; i < size; i += 16) {
        const uint8_t *block = crest_decode_block(data + i, size - i, sizeof rest, rest);
        done += crest_sse4_decode_block(block, units + done, room - done, width);
    }
}

CREST_TARGET("sse4.1,popcnt") CREST_DECODER(crest_decode_sse4, crest_sse4_decode)

CREST_SSE4(uint8_t) crest_sse4_greatest(__m128i block)
{
    block = _mm_max_epu8(block, _mm_srli_si128(block, 8));
    block = _mm_max_epu8(block, _mm_srli_si128(block, 4));
    block = _mm_max_epu8(block, _mm_srli_si128(block, 2));
    return (uint8_t)_mm_cvtsi128_si32(_mm_max_epu8(block, _mm_srli_si128(block, 1)));
}

CREST_TARGET("sse4.1,popcnt") static inline crest_extent crest_measure_sse4(const uint8_t *data, size_t size)
{
    uint8_t copy[16];
    size_t continuations = 0;
    __m128i greatest = _mm_setzero_si128();
    for (size_t i = 0; i < size; i += 16) {
        __m128i block = crest_sse4_bytes(crest_decode_block(data + i, size - i, sizeof copy, copy));
        continuations += (size_t)__builtin_popcount(crest_sse4_continuations(block));
        greatest = _mm_max_epu8(greatest, block);
    }
    return (crest_extent){size - continuations, crest_sse4_greatest(greatest)};
}

/* As with SSE4.1, for 32 bytes at a time up to the gathering: shuffles do not leave the 16 bytes that they are in. */
#define CREST_AVX2(type) CREST_TARGET("avx2,popcnt") CREST_INLINE type

typedef struct {
    __m256i low, middle, high;
} crest_avx2_codes;

CREST_AVX2(__m256i) crest_avx2_bytes(const uint8_t *data)
{
    return _mm256_loadu_si256((const __m256i *)data);
}

CREST_AVX2(__m256i) crest_avx2_from(__m256i block, uint8_t least)
{
    return _mm256_cmpeq_epi8(_mm256_max_epu8(block, _mm256_set1_epi8((char)least)), block);
}

CREST_AVX2(uint32_t) crest_avx2_continuations(__m256i block)
{
    return (uint32_t)_mm256_movemask_epi8(_mm256_cmpgt_epi8(_mm256_set1_epi8((char)0xC0), block));
}

CREST_AVX2(__m256i) crest_avx2_left(__m256i block, int count, uint8_t kept)
{
    return _mm256_and_si256(_mm256_slli_epi16(block, count), _mm256_set1_epi8((char)kept));
}

CREST_AVX2(__m256i) crest_avx2_right(__m256i block, int count, uint8_t kept)
{
    return _mm256_and_si256(_mm256_srli_epi16(block, count), _mm256_set1_epi8((char)kept));
}

CREST_AVX2(crest_avx2_codes) crest_avx2_read(const uint8_t *data, unsigned width)
{
    __m256i zero = _mm256_setzero_si256(), first = crest_avx2_bytes(data), second = crest_avx2_bytes(data + 1);
    __m256i last = second, before = first, upper = zero, high = zero;
    if (width > 1) {
        __m256i third = crest_avx2_bytes(data + 2), from_3 = crest_avx2_from(first, 0xE0);
        last = _mm256_blendv_epi8(last, third, from_3);
        before = _mm256_blendv_epi8(before, second, from_3);
        upper = _mm256_and_si256(first, from_3);
        if (width > 2) {
            __m256i fourth = crest_avx2_bytes(data + 3), from_4 = crest_avx2_from(first, 0xF0);
            last = _mm256_blendv_epi8(last, fourth, from_4);
            before = _mm256_blendv_epi8(before, third, from_4);
            upper = _mm256_blendv_epi8(upper, second, from_4);
            high = _mm256_or_si256(crest_avx2_right(second, 4, 0x03), crest_avx2_left(first, 2, 0x1C));
            high = _mm256_and_si256(high, from_4);
        }
    }
    __m256i low = _mm256_or_si256(crest_avx2_left(before, 6, 0xC0), _mm256_and_si256(last, _mm256_set1_epi8(0x3F)));
    __m256i middle = _mm256_or_si256(crest_avx2_right(before, 2, 0x0F), crest_avx2_left(upper, 4, 0xF0));
    return (crest_avx2_codes){_mm256_blendv_epi8(first, low, first), _mm256_blendv_epi8(zero, middle, first), high};
}

CREST_AVX2(size_t) crest_avx2_decode_block(const uint8_t *data, uint8_t *units, size_t room, unsigned width)
{
    uint32_t leads = ~crest_avx2_continuations(crest_avx2_bytes(data));
    size_t second = (size_t)__builtin_popcount(leads & 0xFF) * width;
    size_t third = (size_t)__builtin_popcount(leads & 0xFFFF) * width;
    size_t fourth = (size_t)__builtin_popcount(leads & 0xFFFFFF) * width;
    size_t size = (size_t)__builtin_popcount(leads) * width;
    uint8_t spill[32 * 4], *to = fourth + 8 * width <= room ? units : spill;
    crest_avx2_codes codes = crest_avx2_read(data, width);
    crest_sse4_codes early = {_mm256_castsi256_si128(codes.low), _mm256_castsi256_si128(codes.middle),
                              _mm256_castsi256_si128(codes.high)};
    crest_sse4_codes late = {_mm256_extracti128_si256(codes.low, 1), _mm256_extracti128_si256(codes.middle, 1),
                             _mm256_extracti128_si256(codes.high, 1)};
    crest_sse4_write(to, early, (uint8_t)leads, 0, width);
    crest_sse4_write(to + second, early, (uint8_t)(leads >> 8), 8, width);
    crest_sse4_write(to + third, late, (uint8_t)(leads >> 16), 0, width);
    crest_sse4_write(to + fourth, late, (uint8_t)(leads >> 24), 8, width);
    if (to == spill)
        memcpy(units, spill, size < room ? size : room);
    return size;
}

/* The places of the leads, if every character of a block has three bytes. */
#define CREST_AVX2_THREES 0x49249249u

/* Writes the units, of two bytes, of eight characters of three bytes. Looks four bytes further. */
CREST_AVX2(void) crest_avx2_decode_threes(const uint8_t *data, uint8_t *units)
{
    __m128i early = crest_sse4_bytes(data), late = crest_sse4_bytes(data + 12);
    __m128i order = _mm_setr_epi8(2, 1, 0, -1, 5, 4, 3, -1, 8, 7, 6, -1, 11, 10, 9, -1);
    __m256i codes = _mm256_inserti128_si256(_mm256_castsi128_si256(early), late, 1);
    codes = _mm256_shuffle_epi8(codes, _mm256_broadcastsi128_si256(order));
    codes = _mm256_and_si256(codes, _mm256_set1_epi32(0x0F3F3F));
    /* Multiply and add in pairs: the last byte and the one before it, then those and the first. */
    codes = _mm256_maddubs_epi16(codes, _mm256_set1_epi16(1 << 6 << 8 | 1));
    codes = _mm256_madd_epi16(codes, _mm256_set1_epi32(1 << 12 << 16 | 1));
    codes = _mm256_permute4x64_epi64(_mm256_packus_epi32(codes, codes), 0x08);
    _mm_storeu_si128((__m128i *)units, _mm256_castsi256_si128(codes));
}

/* Chinese and Japanese have few characters of other lengths. With this path of their own, characters of three bytes
 * take less than half the time ("decode" in benches/bench_kernels.py). All other text takes a tenth more. */
CREST_AVX2(void) crest_avx2_decode(const uint8_t *data, size_t size, uint8_t *units, size_t room, unsigned width)
{
    uint8_t rest[32 + CREST_DECODE_AHEAD];
    size_t i = 0, done = 0;
    while (size - i >= sizeof rest) {
        if (width == 2 && ~crest_avx2_continuations(crest_avx2_bytes(data + i)) == CREST_AVX2_THREES) {
            crest_avx2_decode_threes(data + i, units + done);
            i += 24;
            done += 8 * 2;
        } else {
            done += crest_avx2_decode_block(data + i, units + done, room - done, width);
            i += 32;
        }
    }
    for (; i < size; i += 32) {
        const uint8_t *block = crest_decode_block(data + i, size - i, sizeof rest, rest);
        done += crest_avx2_decode_block(block, units + done, room - done, width);
    }
}

CREST_TARGET("avx2,popcnt") CREST_DECODER(crest_decode_avx2, crest_avx2_decode)

CREST_TARGET("avx2,popcnt") static inline crest_extent crest_measure_avx2(const uint8_t *data, size_t size)
{
    uint8_t copy[32];
    size_t continuations = 0;
    __m256i greatest = _mm256_setzero_si256();
    for (size_t i = 0; i < size; i += 32) {
        __m256i block = crest_avx2_bytes(crest_decode_block(data + i, size - i, sizeof copy, copy));
        continuations += (size_t)__builtin_popcount(crest_avx2_continuations(block));
        greatest = _mm256_max_epu8(greatest, block);
    }
    __m128i halves = _mm_max_epu8(_mm256_castsi256_si128(greatest), _mm256_extracti128_si256(greatest, 1));
    return (crest_extent){size - continuations, crest_sse4_greatest(halves)};
}
#endif

#if CREST_NEON
typedef struct {
    uint8x16_t low, middle, high;
} crest_neon_codes;

/* As with SSE4.1, but an insertion (SLI) shifts one vector left and takes the bits below from another. */
CREST_INLINE crest_neon_codes crest_neon_read(const uint8_t *data, unsigned width)
{
    uint8x16_t zero = vdupq_n_u8(0), first = vld1q_u8(data), second = vld1q_u8(data + 1);
    uint8x16_t last = second, before = first, upper = zero, high = zero, from_2 = vcgeq_u8(first, vdupq_n_u8(0x80));
    if (width > 1) {
        uint8x16_t third = vld1q_u8(data + 2), from_3 = vcgeq_u8(first, vdupq_n_u8(0xE0));
        last = vbslq_u8(from_3, third, last);
        before = vbslq_u8(from_3, second, before);
        upper = vandq_u8(from_3, first);
        if (width > 2) {
            uint8x16_t fourth = vld1q_u8(data + 3), from_4 = vcgeq_u8(first, vdupq_n_u8(0xF0));
            last = vbslq_u8(from_4, fourth, last);
            before = vbslq_u8(from_4, third, before);
            upper = vbslq_u8(from_4, second, upper);
            high = vandq_u8(vsliq_n_u8(vshrq_n_u8(second, 4), first, 2), vdupq_n_u8(0x1F));
            high = vandq_u8(from_4, high);
        }
    }
    uint8x16_t low = vsliq_n_u8(last, before, 6), middle = vsliq_n_u8(vshrq_n_u8(before, 2), upper, 4);
    return (crest_neon_codes){vbslq_u8(from_2, low, first), vandq_u8(from_2, middle), high};
}

CREST_INLINE void crest_neon_write(uint8_t *units, crest_neon_codes codes, uint8_t leads, uint8_t place, unsigned width)
{
    uint8x8_t half = vorr_u8(vcreate_u8(crest_decode_places[leads]), vdup_n_u8(place));
    uint8x16_t places = vcombine_u8(half, half), low = vqtbl1q_u8(codes.low, places);
    if (width == 1) {
        vst1_u8(units, vget_low_u8(low));
        return;
    }
    low = vzip1q_u8(low, vqtbl1q_u8(codes.middle, places));
    if (width == 2) {
        vst1q_u8(units, low);
        return;
    }
    uint16x8_t below = vreinterpretq_u16_u8(low);
    uint16x8_t above = vreinterpretq_u16_u8(vzip1q_u8(vqtbl1q_u8(codes.high, places), vdupq_n_u8(0)));
    vst1q_u8(units, vreinterpretq_u8_u16(vzip1q_u16(below, above)));
    vst1q_u8(units + 16, vreinterpretq_u8_u16(vzip2q_u16(below, above)));
}

/* 0xFF for each continuation byte: as signed numbers, those are the least. */
CREST_INLINE uint8x16_t crest_neon_continuations(uint8x16_t block)
{
    return vcltq_s8(vreinterpretq_s8_u8(block), vdupq_n_s8(-0x40));
}

CREST_INLINE size_t crest_neon_decode_block(const uint8_t *data, uint8_t *units, size_t room, unsigned width)
{
    static const uint8_t BITS[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    uint8x16_t bits = vbicq_u8(vld1q_u8(BITS), crest_neon_continuations(vld1q_u8(data)));
    uint8_t early = vaddv_u8(vget_low_u8(bits)), late = vaddv_u8(vget_high_u8(bits));
    size_t second = (size_t)__builtin_popcount(early) * width;
    size_t size = second + (size_t)__builtin_popcount(late) * width;
    uint8_t spill[16 * 4], *to = second + 8 * width <= room ? units : spill;
    crest_neon_codes codes = crest_neon_read(data, width);
    crest_neon_write(to, codes, early, 0, width);
    crest_neon_write(to + second, codes, late, 8, width);
    if (to == spill)
        memcpy(units, spill, size < room ? size : room);
    return size;
}

CREST_INLINE void crest_neon_decode(const uint8_t *data, size_t size, uint8_t *units, size_t room, unsigned width)
{
    uint8_t rest[16 + CREST_DECODE_AHEAD];
    size_t i = 0, done = 0;
    for (; size - i >= sizeof rest; i += 16)
        done += crest_neon_decode_block(data + i, units + done, room - done, width);
    for (; i < size; i += 16) {
        const uint8_t *block = crest_decode_block(data + i, size - i, sizeof rest, rest);
        done += crest_neon_decode_block(block, units + done, room - done, width);
    }
}

CREST_DECODER(crest_decode_neon, crest_neon_decode)

static inline crest_extent crest_measure_neon(const uint8_t *data, size_t size)
{
    uint8_t copy[16];
    size_t continuations = 0;
    uint8x16_t greatest = vdupq_n_u8(0);
    for (size_t i = 0; i < size; i += 16) {
        uint8x16_t block = vld1q_u8(crest_decode_block(data + i, size - i, sizeof copy, copy));
        continuations += vaddvq_u8(vshrq_n_u8(crest_neon_continuations(block), 7));
        greatest = vmaxq_u8(greatest, block);
    }
    return (crest_extent){size - continuations, vmaxvq_u8(greatest)};
}
#endif

#endif
