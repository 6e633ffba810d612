/* Valid UTF-8 to code points, a character at a time: what every CPU can do. */

#ifndef CREST_DECODER_SCALAR_H
#define CREST_DECODER_SCALAR_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "utf8_scalar.h"

/* The facts that have to be known of a text before there is room for it. */
typedef struct {
    size_t characters;
    uint8_t greatest; /* of all bytes: where the greatest code point begins, or one whose lead is the same */
} crest_extent;

/* Defines the variant `name`, which has a copy of `write` for each width of a unit. */
#define CREST_DECODER(name, write) \
    static inline void name(const uint8_t *data, size_t size, void *units, size_t characters, unsigned width) \
    { \
        if (width == 1) \
            write(data, size, units, characters, 1); \
        else if (width == 2) \
            write(data, size, units, characters * 2, 2); \
        else \
            write(data, size, units, characters * 4, 4); \
    }

static inline crest_extent crest_measure_scalar(const uint8_t *data, size_t size)
{
    crest_extent extent = {0, 0};
    for (size_t i = 0; i < size; i++) {
        extent.characters += (data[i] & 0xC0) != 0x80;
        extent.greatest = data[i] > extent.greatest ? data[i] : extent.greatest;
    }
    return extent;
}

/* Reads the code point of the character at `data`, which is none of ASCII, and returns how many bytes it has. */
static inline size_t crest_scalar_read(const uint8_t *data, uint32_t *code)
{
    *code = (uint32_t)(data[0] & 0x1F) << 6 | (data[1] & 0x3F);
    if (data[0] < 0xE0)
        return 2;
    *code = (*code & 0x3FF) << 6 | (data[2] & 0x3F);
    if (data[0] < 0xF0)
        return 3;
    *code = (*code & 0x7FFF) << 6 | (data[3] & 0x3F);
    return 4;
}

/* Writes a unit in the machine's byte order, and returns where the next one goes. */
static inline uint8_t *crest_scalar_write(uint8_t *units, uint32_t code, unsigned width)
{
    if (width == 1) {
        *units = (uint8_t)code;
    } else if (width == 2) {
        uint16_t unit = (uint16_t)code;
        memcpy(units, &unit, 2);
    } else {
        memcpy(units, &code, 4);
    }
    return units + width;
}

static inline void crest_scalar_decode(const uint8_t *data, size_t size, uint8_t *units, size_t room, unsigned width)
{
    size_t i = 0;
    (void)room; /* valid text fills it exactly */
    while (i < size) {
        for (; size - i >= 8 && crest_utf8_ascii_words(data + i, 1); i += 8) {
            for (size_t k = 0; k < 8; k++)
                units = crest_scalar_write(units, data[i + k], width);
        }
        for (; i < size && data[i] < 0x80; i++)
            units = crest_scalar_write(units, data[i], width);
        while (i < size && data[i] >= 0x80) {
            uint32_t code;
            i += crest_scalar_read(data + i, &code);
            units = crest_scalar_write(units, code, width);
        }
    }
}

CREST_DECODER(crest_decode_scalar, crest_scalar_decode)

#endif
