/* Valid UTF-8 to code points, in units of one, two or four bytes.
 *
 * Owns the decoder's variants. Must not know what a message or a Python object is, nor what to do with text that is not
 * valid: crest_utf8_validate (utf8.h) says which is.
 *
 * Contract of every variant, for valid UTF-8:
 *   - measure says how many characters there are, and which byte is the greatest;
 *   - decode writes each character's code point to a unit of `width` bytes, in the machine's byte order; each must fit,
 *     and `characters` is what measure has said;
 *   - nothing outside [data, data + size) is read, nothing outside the units is written, and neither pointer needs an
 *     alignment. */

#ifndef CREST_DECODER_H
#define CREST_DECODER_H

#include "decoder_compress.h"
#include "decoder_gather.h"
#include "decoder_scalar.h"

typedef struct {
    const char *name;
    crest_extent (*measure)(const uint8_t *data, size_t size);
    void (*decode)(const uint8_t *data, size_t size, void *units, size_t characters, unsigned width);
} crest_decoder;

/* How many variants a CPU can have at most. */
#define CREST_DECODERS 4

/* Fills `found` with the variants that this CPU can run, the fastest last, and returns how many those are. */
static inline size_t crest_decoders(crest_decoder found[CREST_DECODERS])
{
    size_t count = 0;
    found[count++] = (crest_decoder){"scalar", crest_measure_scalar, crest_decode_scalar};
#if CREST_X86
    if (crest_cpu_has_sse4())
        found[count++] = (crest_decoder){"sse4", crest_measure_sse4, crest_decode_sse4};
    if (crest_cpu_has_avx2())
        found[count++] = (crest_decoder){"avx2", crest_measure_avx2, crest_decode_avx2};
    if (crest_cpu_has_avx512())
        found[count++] = (crest_decoder){"avx512", crest_measure_avx512, crest_decode_avx512};
#elif CREST_NEON
    found[count++] = (crest_decoder){"neon", crest_measure_neon, crest_decode_neon};
#endif
    return count;
}

/* The least of 0x80, 0x100, 0x10000 and 0x110000 that is above all code points. */
static inline uint32_t crest_extent_limit(crest_extent extent)
{
    return extent.greatest < 0x80 ? 0x80 : extent.greatest < 0xC4 ? 0x100 : extent.greatest < 0xF0 ? 0x10000 : 0x110000;
}

#endif
