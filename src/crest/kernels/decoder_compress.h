/* Valid UTF-8 to code points, 64 bytes at a time, with the AVX-512 that can leave bytes out (VBMI2).
 *
 * As in decoder_gather.h, each byte is looked at as if it were a lead. In place of shuffles from a table there is an
 * instruction that compresses vectors, and in place of copies at both ends there are masks. After R. Clausecker and D.
 * Lemire, "Transcoding Unicode Characters with AVX-512 Instructions" (2023). */

#ifndef CREST_DECODER_COMPRESS_H
#define CREST_DECODER_COMPRESS_H

#include "cpu.h"
#include "decoder_gather.h"

#if CREST_X86
#define CREST_AVX512_ISA "avx512bw,avx512vbmi2,bmi2,popcnt"
#define CREST_AVX512(type) CREST_TARGET(CREST_AVX512_ISA) CREST_INLINE type

/* Bits 0-7, 8-15 and 16-20 of the code points of 64 places. */
typedef struct {
    __m512i low, middle, high;
} crest_avx512_codes;

/* The 64 bytes from `at` on, with zeros for those that are not there. */
CREST_AVX512(__m512i) crest_avx512_bytes(const uint8_t *data, size_t size, size_t at)
{
    size_t left = at < size ? size - at : 0;
    if (left >= 64)
        return _mm512_loadu_si512(data + at);
    return _mm512_maskz_loadu_epi8(_bzhi_u64(UINT64_MAX, (uint32_t)left), data + size - left);
}

/* Stores as much of a vector as there is room for, `done` bytes from the beginning. */
CREST_AVX512(void) crest_avx512_store(uint8_t *units, size_t room, size_t done, __m512i vector)
{
    size_t left = done < room ? room - done : 0;
    if (left >= 64)
        _mm512_storeu_si512(units + done, vector);
    else
        _mm512_mask_storeu_epi8(units + room - left, _bzhi_u64(UINT64_MAX, (uint32_t)left), vector);
}

CREST_AVX512(__mmask64) crest_avx512_from(__m512i block, uint8_t least)
{
    return _mm512_cmpge_epu8_mask(block, _mm512_set1_epi8((char)least));
}

CREST_AVX512(__mmask64) crest_avx512_continuations(__m512i block)
{
    return _mm512_cmplt_epi8_mask(block, _mm512_set1_epi8((char)0xC0));
}

CREST_AVX512(__m512i) crest_avx512_left(__m512i block, unsigned count, uint8_t kept)
{
    return _mm512_and_si512(_mm512_slli_epi16(block, count), _mm512_set1_epi8((char)kept));
}

CREST_AVX512(__m512i) crest_avx512_right(__m512i block, unsigned count, uint8_t kept)
{
    return _mm512_and_si512(_mm512_srli_epi16(block, count), _mm512_set1_epi8((char)kept));
}

/* The codes of the leads come first. Bits that units of `width` bytes have no use for stay zero. */
CREST_AVX512(crest_avx512_codes)
crest_avx512_read(const uint8_t *data, size_t size, size_t at, __m512i first, __mmask64 leads, unsigned width)
{
    __mmask64 from_2 = crest_avx512_from(first, 0x80);
    __m512i second = crest_avx512_bytes(data, size, at + 1), last = second, before = first;
    __m512i upper = _mm512_setzero_si512(), high = upper;
    if (width > 1) {
        __m512i third = crest_avx512_bytes(data, size, at + 2);
        __mmask64 from_3 = crest_avx512_from(first, 0xE0);
        last = _mm512_mask_mov_epi8(last, from_3, third);
        before = _mm512_mask_mov_epi8(before, from_3, second);
        upper = _mm512_maskz_mov_epi8(from_3, first);
        if (width > 2) {
            __m512i fourth = crest_avx512_bytes(data, size, at + 3);
            __mmask64 from_4 = crest_avx512_from(first, 0xF0);
            last = _mm512_mask_mov_epi8(last, from_4, fourth);
            before = _mm512_mask_mov_epi8(before, from_4, third);
            upper = _mm512_mask_mov_epi8(upper, from_4, second);
            high = _mm512_or_si512(crest_avx512_right(second, 4, 0x03), crest_avx512_left(first, 2, 0x1C));
            high = _mm512_maskz_compress_epi8(leads, _mm512_maskz_mov_epi8(from_4, high));
        }
    }
    __m512i low = _mm512_or_si512(crest_avx512_left(before, 6, 0xC0), _mm512_and_si512(last, _mm512_set1_epi8(0x3F)));
    __m512i middle = _mm512_or_si512(crest_avx512_right(before, 2, 0x0F), crest_avx512_left(upper, 4, 0xF0));
    low = _mm512_maskz_compress_epi8(leads, _mm512_mask_mov_epi8(first, from_2, low));
    middle = _mm512_maskz_compress_epi8(leads, _mm512_maskz_mov_epi8(from_2, middle));
    return (crest_avx512_codes){low, middle, high};
}

/* Unpacking takes halves of each 16 bytes. In this order those are the halves of the whole vector. */
CREST_AVX512(__m512i) crest_avx512_spread(__m512i vector)
{
    return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7), vector);
}

/* Writes 32 units of four bytes, of which the lower two and the upper two are given. */
CREST_AVX512(void) crest_avx512_write4(uint8_t *units, size_t room, size_t done, __m512i lower, __m512i upper)
{
    lower = crest_avx512_spread(lower);
    upper = crest_avx512_spread(upper);
    crest_avx512_store(units, room, done, _mm512_unpacklo_epi16(lower, upper));
    crest_avx512_store(units, room, done + 64, _mm512_unpackhi_epi16(lower, upper));
}

/* Writes 64 units, as far as there is room for them. */
CREST_AVX512(void)
crest_avx512_write(uint8_t *units, size_t room, size_t done, crest_avx512_codes codes, unsigned width)
{
    if (width == 1) {
        crest_avx512_store(units, room, done, codes.low);
        return;
    }
    __m512i low = crest_avx512_spread(codes.low), middle = crest_avx512_spread(codes.middle);
    __m512i early = _mm512_unpacklo_epi8(low, middle), late = _mm512_unpackhi_epi8(low, middle);
    if (width == 2) {
        crest_avx512_store(units, room, done, early);
        crest_avx512_store(units, room, done + 64, late);
        return;
    }
    __m512i high = crest_avx512_spread(codes.high), zero = _mm512_setzero_si512();
    crest_avx512_write4(units, room, done, early, _mm512_unpacklo_epi8(high, zero));
    crest_avx512_write4(units, room, done + 128, late, _mm512_unpackhi_epi8(high, zero));
}

CREST_AVX512(void) crest_avx512_decode(const uint8_t *data, size_t size, uint8_t *units, size_t room, unsigned width)
{
    for (size_t i = 0, done = 0; i < size; i += 64) {
        __m512i first = crest_avx512_bytes(data, size, i);
        __mmask64 leads = ~crest_avx512_continuations(first);
        crest_avx512_write(units, room, done, crest_avx512_read(data, size, i, first, leads, width), width);
        done += (size_t)__builtin_popcountll(leads) * width;
    }
}

CREST_TARGET(CREST_AVX512_ISA) CREST_DECODER(crest_decode_avx512, crest_avx512_decode)

CREST_TARGET(CREST_AVX512_ISA) static inline crest_extent crest_measure_avx512(const uint8_t *data, size_t size)
{
    size_t continuations = 0;
    __m512i greatest = _mm512_setzero_si512();
    for (size_t i = 0; i < size; i += 64) {
        __m512i block = crest_avx512_bytes(data, size, i);
        continuations += (size_t)__builtin_popcountll(crest_avx512_continuations(block));
        greatest = _mm512_max_epu8(greatest, block);
    }
    __m256i halves = _mm256_max_epu8(_mm512_castsi512_si256(greatest), _mm512_extracti64x4_epi64(greatest, 1));
    __m128i quarters = _mm_max_epu8(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1));
    return (crest_extent){size - continuations, crest_sse4_greatest(quarters)};
}
#endif

#endif
