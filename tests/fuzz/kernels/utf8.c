/* Every variant of utf8.h against a loop over bytes: whole, and as a stream that is cut in up to four.
 *
 * Input: an alignment, three lengths of chunks, the text. The loop is RFC 3629's grammar by arithmetic, of each sequence
 * the code point and then its range, where the kernel compares bytes. */

#include "place.h"

#include "utf8.h"

enum { CHUNKS = 4 };

static place text_place;

typedef enum { VALID, UNFINISHED, INVALID } verdict;

/* Reads one sequence, and says how many of its bytes there are. */
static verdict judge_sequence(const uint8_t *text, size_t left, size_t *length)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    uint8_t lead = text[0];
    size_t wanted = lead < 0x80 ? 1 : lead >> 5 == 6 ? 2 : lead >> 4 == 14 ? 3 : lead >> 3 == 30 ? 4 : 0;
    if (wanted == 0)
        return INVALID;
    uint32_t lowest = wanted == 1 ? lead : (uint32_t)lead & (0x7Fu >> wanted), highest = lowest;
    for (size_t i = 1; i < wanted; i++) {
        bool there = i < left;
        if (there && text[i] >> 6 != 2)
            return INVALID;
        lowest = lowest << 6 | (there ? text[i] & 0x3Fu : 0);
        highest = highest << 6 | (there ? text[i] & 0x3Fu : 0x3F);
    }
    /* Of what is not there yet, any bytes: the sequence can become valid if some code point in the range is. */
    if (highest < least[wanted] || lowest > 0x10FFFF || (lowest >= 0xD800 && highest <= 0xDFFF))
        return INVALID;
    *length = wanted < left ? wanted : left;
    return wanted <= left ? VALID : UNFINISHED;
}

/* `start` gets where the sequence begins that is unfinished or invalid: `size` for none. */
static verdict judge(const uint8_t *text, size_t size, size_t *start)
{
    size_t length = 0;
    for (*start = 0; *start < size; *start += length) {
        verdict found = judge_sequence(text + *start, size - *start, &length);
        if (found != VALID)
            return found;
    }
    return VALID;
}

/* What the loop says of the text up to each cut; the last one is at its end. */
static struct {
    size_t end, start;
    verdict found;
} expected[CHUNKS];

static void check_whole(const crest_utf8_variant *variant, const uint8_t *input, const uint8_t *text, size_t size)
{
    uint8_t *data = open_place(&text_place, input[0], size);
    memcpy(data, text, size);
    expect(variant->call(data, size) == (expected[CHUNKS - 1].found == VALID), "wrong verdict", variant->name);
    expect(crest_utf8_valid_prefix(data, size) == expected[CHUNKS - 1].start, "wrong prefix", variant->name);
    expect(intact(data), "written in front of the text", variant->name);
}

/* Feeds the text chunk by chunk: it must fail with the first one that the loop refuses, and say where. */
static void check_stream(const crest_utf8_variant *variant, const uint8_t *input, const uint8_t *text)
{
    crest_utf8 state;
    size_t begin = 0;
    crest_utf8_start(&state);
    for (int k = 0; k < CHUNKS; k++) {
        size_t part = expected[k].end - begin;
        uint8_t *data = open_place(&text_place, input[0] + begin, part);
        memcpy(data, text + begin, part);
        bool valid = crest_utf8_feed_with(variant->call, &state, data, part);
        expect(valid == (expected[k].found != INVALID), "wrong on a chunk", variant->name);
        expect(crest_utf8_finish(&state) == (expected[k].found == VALID), "wrong at the end", variant->name);
        if (!valid) {
            ptrdiff_t fault = (ptrdiff_t)begin + crest_utf8_fault_offset(&state, data, part);
            expect(fault == (ptrdiff_t)expected[k].start, "wrong place", variant->name);
            return;
        }
        begin = expected[k].end;
    }
}

static void check_ascii(const uint8_t *input, const uint8_t *text, size_t size)
{
    uint8_t seen = 0, *data = open_place(&text_place, input[0], size);
    memcpy(data, text, size);
    for (size_t i = 0; i < size; i++)
        seen |= text[i];
    expect(crest_utf8_is_ascii(data, size) == (seen < 0x80), "wrong", "is_ascii");
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t input_size)
{
    if (input_size < CHUNKS || input_size - CHUNKS > LONGEST)
        return 0;
    const uint8_t *text = input + CHUNKS;
    size_t size = input_size - CHUNKS, end = 0;
    for (int k = 0; k < CHUNKS; k++) {
        end = k + 1 < CHUNKS && input[k + 1] < size - end ? end + input[k + 1] : size;
        expected[k].end = end;
        expected[k].found = judge(text, end, &expected[k].start);
    }
    check_ascii(input, text, size);

    crest_utf8_variant variants[CREST_UTF8_VARIANTS];
    size_t count = crest_utf8_variants(variants);
    for (crest_utf8_variant *variant = variants; variant < variants + count; variant++) {
        check_whole(variant, input, text, size);
        check_stream(variant, input, text);
    }
    return 0;
}
