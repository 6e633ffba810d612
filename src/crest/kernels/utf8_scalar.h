/* Single sequences of UTF-8, and whole text without vectors: for every CPU, and for the ends that the vector variants
 * in utf8_lookup.h leave over. Nothing outside [data, data + size) is read. */

#ifndef CREST_UTF8_SCALAR_H
#define CREST_UTF8_SCALAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* True if `count` 8-byte words hold no byte above 0x7F. */
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

/* Returns the length of the valid sequence of two or more bytes at `data`, where `left` bytes are; 0: none. */
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

/* Counts the bytes of `data` before its first sequence that is invalid or unfinished: `size` if there is none. */
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

/* Counts the bytes at the end that begin a sequence longer than they are: 0 if the last one has all it needs. */
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

#endif
