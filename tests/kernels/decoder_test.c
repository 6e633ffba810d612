/* decoder.h against the code points that a text was made of: every variant of this CPU, in every width that they fit.
 *
 * A text and its units lie against a page that may not be touched, once with their ends and once with their beginnings:
 * what reaches outside is killed, which a sanitizer would not see where vectors are masked.
 */

#define _DEFAULT_SOURCE

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "decoder.h"
#include "text.h"

/* In bytes of text, which has at least a quarter as many characters; how many of those a message shows. */
enum { LONGEST = 1 << 13, SHOWN = 200, CANARY = 0xA5 };

static crest_decoder decoders[CREST_DECODERS];
static size_t decoder_count;
static unsigned long checks;

/* `size` bytes between two pages that may not be touched. */
typedef struct {
    uint8_t *begin, *end;
} fenced;

static fenced text_place, units_place;

static fenced fence(size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), inside = (size + page - 1) / page * page;
    uint8_t *all = mmap(NULL, inside + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED || mprotect(all + page, inside, PROT_READ | PROT_WRITE) != 0)
        abort();
    return (fenced){all + page, all + page + inside};
}

static void check(bool right, const char *what, const crest_decoder *decoder, unsigned width, const uint32_t *codes,
                  size_t count)
{
    checks++;
    if (right)
        return;
    fprintf(stderr, "%s: %s, %u bytes a unit,", what, decoder->name, width);
    for (size_t i = 0; i < count && i < SHOWN; i++)
        fprintf(stderr, " U+%04X", codes[i]);
    fprintf(stderr, "%s\n", count > SHOWN ? " ..." : "");
    exit(1);
}

static uint32_t unit_at(const uint8_t *units, size_t i, unsigned width)
{
    uint16_t two;
    uint32_t four;
    if (width == 1)
        return units[i];
    memcpy(&two, units + 2 * i, 2);
    if (width == 2)
        return two;
    memcpy(&four, units + 4 * i, 4);
    return four;
}

/* `neighbour` is the byte next to the units that is not theirs. */
static void check_units(const crest_decoder *decoder, const uint8_t *text, size_t size, uint8_t *units,
                        uint8_t *neighbour, const uint32_t *codes, size_t count, unsigned width)
{
    *neighbour = CANARY;
    decoder->decode(text, size, units, count, width);
    bool right = *neighbour == CANARY;
    for (size_t i = 0; i < count; i++)
        right = right && unit_at(units, i, width) == codes[i];
    check(right, "wrong units", decoder, width, codes, count);
}

static void check_codes(const uint32_t *codes, size_t count)
{
    uint8_t text[LONGEST], greatest_byte = 0;
    size_t size = 0;
    uint32_t greatest = 0;
    for (size_t i = 0; i < count; i++) {
        size += encode(text + size, codes[i]);
        greatest = codes[i] > greatest ? codes[i] : greatest;
    }
    for (size_t i = 0; i < size; i++)
        greatest_byte = text[i] > greatest_byte ? text[i] : greatest_byte;
    uint32_t limit = greatest < 0x80 ? 0x80 : greatest < 0x100 ? 0x100 : greatest < 0x10000 ? 0x10000 : 0x110000;

    uint8_t *late = memcpy(text_place.end - size, text, size);
    uint8_t *early = memcpy(text_place.begin, text, size);
    for (const crest_decoder *decoder = decoders; decoder < decoders + decoder_count; decoder++) {
        crest_extent extents[] = {decoder->measure(late, size), decoder->measure(early, size)};
        for (size_t i = 0; i < 2; i++) {
            bool right = extents[i].characters == count && extents[i].greatest == greatest_byte;
            check(right && crest_extent_limit(extents[i]) == limit, "wrong extent", decoder, 0, codes, count);
        }
        for (unsigned width = limit > 0x10000 ? 4 : limit > 0x100 ? 2 : 1; width <= 4; width *= 2) {
            uint8_t *units = units_place.end - count * width;
            check_units(decoder, late, size, units, units - 1, codes, count, width);
            units = units_place.begin;
            check_units(decoder, early, size, units, units + count * width, codes, count, width);
        }
    }
}

/* A character behind `before` and in front of `after` others. */
static void check_place(uint32_t code, size_t before, size_t after, uint32_t filler)
{
    uint32_t codes[LONGEST / 4];
    for (size_t i = 0; i < before + 1 + after; i++)
        codes[i] = filler;
    codes[before] = code;
    check_codes(codes, before + 1 + after);
}

/* The first and the last of each length, kind of unit and bit pattern that the variants tell apart. */
static const uint32_t BOUNDARIES[] = {
    0x00,   0x7F,   0x80,   0xBF,   0xC0,    0xFF,    0x100,   0x7FF,    0x800,    0xFFF,
    0x1000, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x3FFFF, 0x40000, 0x100000, 0x10FFFF,
};

static void check_places(void)
{
    static const uint32_t fillers[] = {'a', 0xE9, 0x448, 0x8A9E, 0x1F600};
    for (size_t i = 0; i < sizeof BOUNDARIES / sizeof *BOUNDARIES; i++) {
        for (size_t f = 0; f < sizeof fillers / sizeof *fillers; f++) {
            for (size_t before = 0; before < 140; before++) {
                for (size_t after = 0; after < 140; after += 1 + chance(24))
                    check_place(BOUNDARIES[i], before, after, fillers[f]);
            }
        }
    }
}

/* Each somewhere else in a block. */
static void check_every_code(void)
{
    for (uint32_t code = 0; code <= 0x10FFFF; code++) {
        if (code < 0xD800 || code > 0xDFFF)
            check_place(code, code % 67, code % 5, code % 2 ? 'a' : code);
    }
}

/* All ways in which leads may lie in nine bytes, behind the last whole block of each size and in it. */
static void check_patterns(uint32_t *codes, size_t count, size_t left)
{
    static const uint32_t lengths[] = {'z', 0x3B1, 0x4E00, 0x1F4A9};
    if (left == 0)
        check_codes(codes, count);
    for (size_t length = 1; length <= 4 && length <= left; length++) {
        codes[count] = lengths[length - 1];
        check_patterns(codes, count + 1, left - length);
    }
}

static void check_mixtures(void)
{
    uint32_t codes[LONGEST / 4];
    for (int round = 0; round < 20000; round++) {
        size_t count = chance(round % 100 ? 300 : LONGEST / 4);
        size_t usual = 1 + chance(4), longest = usual + chance(5 - usual);
        for (size_t i = 0; i < count; i++)
            codes[i] = any_code(chance(4) ? usual : 1 + chance(longest));
        check_codes(codes, count);
    }
}

int main(void)
{
    uint32_t codes[80];
    text_place = fence(2 * LONGEST);
    units_place = fence(2 * LONGEST);
    decoder_count = crest_decoders(decoders);
    check_codes(NULL, 0);
    check_places();
    check_every_code();
    for (size_t before = 0; before < 70; before++) {
        codes[before] = 0x20 + before;
        check_patterns(codes, before, 9);
    }
    check_mixtures();
    for (size_t i = 0; i < decoder_count; i++)
        printf("%s ", decoders[i].name);
    printf("decoder: %lu checks passed\n", checks);
    return 0;
}
