/* Every variant of decoder.h against the scalar one, and that against a loop over code points, in any width that fits.
 *
 * Input: alignment of the text, alignment of the units and how much wider they are than need be, the text. Decoders get valid text only, so of other text each byte that is not
 * part of a sequence is replaced: any valid text can come, and none is cut short. */

#include "place.h"

#include "decoder.h"
#include "utf8.h"

enum { HEAD = 2 };

static place text_place, units_place;

/* Makes `text` valid, without a change of its size. */
static void repair(uint8_t *text, size_t size)
{
    for (size_t at = 0; (at += crest_utf8_valid_prefix(text + at, size - at)) < size;)
        text[at] &= 0x7F;
}

/* What a text decodes to. */
static uint8_t codes1[LONGEST];
static uint16_t codes2[LONGEST];
static uint32_t codes4[LONGEST];

/* Reads valid text, one character after the other. */
static crest_extent read_codes(const uint8_t *text, size_t size)
{
    crest_extent extent = {0, 0};
    for (size_t i = 0; i < size;) {
        uint8_t lead = text[i];
        size_t length = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
        uint32_t code = length == 1 ? lead : (uint32_t)lead & (0x7Fu >> length);
        for (size_t k = 1; k < length; k++)
            code = code << 6 | (text[i + k] & 0x3Fu);
        codes1[extent.characters] = (uint8_t)code;
        codes2[extent.characters] = (uint16_t)code;
        codes4[extent.characters++] = code;
        extent.greatest = lead > extent.greatest ? lead : extent.greatest;
        i += length;
    }
    return extent;
}

static uint32_t least_limit(size_t characters)
{
    uint32_t greatest = 0;
    for (size_t i = 0; i < characters; i++)
        greatest = codes4[i] > greatest ? codes4[i] : greatest;
    return greatest < 0x80 ? 0x80 : greatest < 0x100 ? 0x100 : greatest < 0x10000 ? 0x10000 : 0x110000;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t input_size)
{
    if (input_size < HEAD || input_size - HEAD > LONGEST)
        return 0;
    size_t size = input_size - HEAD;
    uint8_t *text = open_place(&text_place, input[0], size);
    memcpy(text, input + HEAD, size);
    repair(text, size);
    crest_extent expected = read_codes(text, size);
    uint32_t limit = least_limit(expected.characters);
    unsigned least = limit > 0x10000 ? 4 : limit > 0x100 ? 2 : 1, width = least << (input[1] >> 6);
    width = width > 4 ? 4 : width;
    const void *codes = width == 1 ? (void *)codes1 : width == 2 ? (void *)codes2 : (void *)codes4;

    crest_decoder decoders[CREST_DECODERS];
    size_t count = crest_decoders(decoders);
    for (crest_decoder *decoder = decoders; decoder < decoders + count; decoder++) {
        crest_extent found = decoder->measure(text, size);
        bool right = found.characters == expected.characters && found.greatest == expected.greatest;
        expect(right && crest_extent_limit(found) == limit, "wrong extent", decoder->name);
        uint8_t *units = open_place(&units_place, input[1], found.characters * width);
        decoder->decode(text, size, units, found.characters, width);
        expect(memcmp(units, codes, found.characters * width) == 0, "wrong units", decoder->name);
        expect(intact(units), "written in front of the units", decoder->name);
    }
    return 0;
}
