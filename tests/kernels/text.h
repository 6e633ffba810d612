/* Random text, for the tests of the kernels that know UTF-8. */

#ifndef CREST_TEST_TEXT_H
#define CREST_TEST_TEXT_H

#include <stddef.h>
#include <stdint.h>

/* The same numbers in each run. */
static uint32_t chance(uint32_t below)
{
    static uint64_t state = 3629;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32) % below;
}

/* UTF-8's arithmetic; returns how many bytes the character has. */
static size_t encode(uint8_t *text, uint32_t code)
{
    size_t size = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const uint8_t marks[] = {0x00, 0x00, 0xC0, 0xE0, 0xF0};
    for (size_t i = size; i-- > 1; code >>= 6)
        text[i] = (uint8_t)(0x80 | (code & 0x3F));
    text[0] = (uint8_t)(marks[size] | code);
    return size;
}

/* A code point whose character has up to `size` bytes, though mostly as many. */
static uint32_t any_code(size_t size)
{
    static const uint32_t limits[] = {0, 0x80, 0x800, 0x10000, 0x110000};
    uint32_t code = chance(limits[size]);
    return code >= 0xD800 && code <= 0xDFFF ? 0xFFFD : code;
}

#endif
