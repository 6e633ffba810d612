/* utf8.h against RFC 3629's grammar, byte by byte: every variant of this CPU, whole and in chunks.
 *
 * Buffers have exactly the size that the kernel is told: AddressSanitizer sees one byte too many on either side.
 */

#include <stdio.h>
#include <stdlib.h>

#include "text.h"
#include "utf8.h"

enum { LONGEST = 400 };

/* A connection keeps one. */
_Static_assert(sizeof(crest_utf8) <= 8, "the streaming state has grown");

static crest_utf8_variant variants[CREST_UTF8_VARIANTS + 1];
static size_t variant_count;
static unsigned long checks;

static void check(bool right, const char *what, const char *variant, const uint8_t *text, size_t size)
{
    checks++;
    if (right)
        return;
    fprintf(stderr, "%s: %s,", what, variant);
    for (size_t i = 0; i < size; i++)
        fprintf(stderr, " %02X", text[i]);
    fprintf(stderr, "\n");
    exit(1);
}

/* Section 4's grammar: the range of the lead, that of the second byte, and how many continuation bytes there are. */
static const struct {
    uint8_t lead_low, lead_high, second_low, second_high, continuations;
} GRAMMAR[] = {
    {0x00, 0x7F, 0x00, 0x00, 0}, {0xC2, 0xDF, 0x80, 0xBF, 1}, {0xE0, 0xE0, 0xA0, 0xBF, 2},
    {0xE1, 0xEC, 0x80, 0xBF, 2}, {0xED, 0xED, 0x80, 0x9F, 2}, {0xEE, 0xEF, 0x80, 0xBF, 2},
    {0xF0, 0xF0, 0x90, 0xBF, 3}, {0xF1, 0xF3, 0x80, 0xBF, 3}, {0xF4, 0xF4, 0x80, 0x8F, 3},
};

typedef enum { VALID, UNFINISHED, INVALID } verdict;

/* The naive reference. `start` gets where the sequence begins that is unfinished or invalid: `size` for none. */
static verdict judge(const uint8_t *text, size_t size, size_t *start)
{
    for (size_t i = 0; i < size;) {
        size_t row = 0, rows = sizeof GRAMMAR / sizeof *GRAMMAR;
        *start = i;
        while (row < rows && (text[i] < GRAMMAR[row].lead_low || text[i] > GRAMMAR[row].lead_high))
            row++;
        if (row == rows)
            return INVALID;
        i++;
        for (size_t more = 0; more < GRAMMAR[row].continuations; more++, i++) {
            uint8_t low = more ? 0x80 : GRAMMAR[row].second_low, high = more ? 0xBF : GRAMMAR[row].second_high;
            if (i == size)
                return UNFINISHED;
            if (text[i] < low || text[i] > high)
                return INVALID;
        }
    }
    *start = size;
    return VALID;
}

static void check_whole(const uint8_t *text, size_t size)
{
    size_t start;
    verdict expected = judge(text, size, &start);
    uint8_t *exact = malloc(size + !size);
    memcpy(exact, text, size);
    for (size_t v = 0; v < variant_count; v++)
        check(variants[v].call(exact, size) == (expected == VALID), "wrong verdict", variants[v].name, text, size);
    check(crest_utf8_valid_prefix(exact, size) == start, "wrong prefix", "", text, size);
    bool ascii = true;
    for (size_t i = 0; i < size; i++)
        ascii = ascii && text[i] < 0x80;
    check(crest_utf8_is_ascii(exact, size) == ascii, "wrong about ASCII", "", text, size);
    free(exact);
}

/* `ends` are where the chunks end. */
static void check_stream(crest_utf8_function validate, const char *name, const uint8_t *text, const size_t *ends,
                         size_t count)
{
    crest_utf8 state;
    size_t start, begin = 0;
    crest_utf8_start(&state);
    for (size_t k = 0; k < count; begin = ends[k++]) {
        size_t size = ends[k] - begin;
        verdict expected = judge(text, ends[k], &start);
        uint8_t *chunk = malloc(size + !size);
        memcpy(chunk, text + begin, size);
        bool valid = crest_utf8_feed_with(validate, &state, chunk, size);
        check(valid == (expected != INVALID), "wrong on a chunk", name, text, ends[k]);
        check(crest_utf8_finish(&state) == (expected == VALID), "wrong at the end", name, text, ends[k]);
        if (!valid) {
            ptrdiff_t fault = (ptrdiff_t)begin + crest_utf8_fault_offset(&state, chunk, size);
            check(fault == (ptrdiff_t)start, "wrong place", name, text, ends[k]);
            check(!crest_utf8_feed_with(validate, &state, chunk, 0), "failure forgotten", name, text, ends[k]);
        }
        free(chunk);
        if (!valid)
            return;
    }
}

static void check_splits_in_two(const uint8_t *text, size_t size)
{
    for (size_t v = 0; v < variant_count; v++) {
        for (size_t cut = 0; cut <= size; cut++)
            check_stream(variants[v].call, variants[v].name, text, (size_t[]){cut, size}, 2);
    }
}

/* Every way to cut up to 12 bytes. */
static void check_every_split(const uint8_t *text, size_t size)
{
    for (size_t cuts = 0; cuts < (size_t)1 << (size - 1); cuts++) {
        size_t ends[12], count = 0;
        for (size_t end = 1; end <= size; end++) {
            if (end == size || cuts >> (end - 1) & 1)
                ends[count++] = end;
        }
        for (size_t v = 0; v < variant_count; v++)
            check_stream(variants[v].call, variants[v].name, text, ends, count);
    }
}

/* The sequence at every place around the boundaries of blocks of 16, 32 and 64 bytes, and close to the end. */
static void check_places(const uint8_t *sequence, size_t size)
{
    static const size_t afters[] = {0, 1, 2, 3, 15, 70};
    uint8_t text[LONGEST];
    for (size_t before = 0; before < 136; before++) {
        if (before > 4 && (before + 4) % 16 > 8)
            continue;
        for (size_t a = 0; a < sizeof afters / sizeof *afters; a++) {
            memset(text, 'a', sizeof text);
            memcpy(text + before, sequence, size);
            check_whole(text, before + size + afters[a]);
        }
    }
}

static void check_classes(void)
{
    /* The ends of every range that the grammar tells apart, and their neighbours. */
    static const uint8_t leads[] = {0x41, 0x7F, 0x80, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED,
                                    0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xF7, 0xF8, 0xFF};
    static const uint8_t seconds[] = {0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xE1, 0xFF};
    static const uint8_t tails[] = {0x41, 0x80, 0xBF, 0xC2};
    for (size_t a = 0; a < sizeof leads; a++) {
        for (size_t b = 0; b < sizeof seconds; b++) {
            for (size_t cd = 0; cd < sizeof tails * sizeof tails; cd++) {
                uint8_t text[4] = {leads[a], seconds[b], tails[cd / sizeof tails], tails[cd % sizeof tails]};
                for (size_t size = 1; size <= 4; size++)
                    check_whole(text, size);
                check_every_split(text, 4);
                check_places(text, 4);
            }
        }
    }
    for (unsigned pair = 0; pair <= 0xFFFF; pair++) {
        uint8_t text[64];
        memset(text, 'a', sizeof text);
        text[34] = (uint8_t)(pair >> 8);
        text[35] = (uint8_t)pair;
        check_whole(text + 34, 1);
        check_whole(text + 34, 2);
        check_whole(text, sizeof text);
    }
}

static void check_ascii(void)
{
    enum { SIZE = 300 };
    uint8_t text[SIZE];
    for (size_t at = 0; at < SIZE; at++) {
        memset(text, 'a', SIZE);
        text[at] = 0x80;
        check_whole(text, SIZE);
    }
}

/* Valid text of whole characters, at most `room` bytes, mostly of one length as a language's are. */
static size_t compose(uint8_t *text, size_t room)
{
    size_t size = 0, usual = 1 + chance(4);
    while (size + 4 <= room)
        size += encode(text + size, any_code(chance(4) ? usual : 1 + chance(4)));
    return size;
}

static void check_mutations(void)
{
    static const uint8_t telling[] = {0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2,
                                      0xDF, 0xE0, 0xED, 0xEF, 0xF0, 0xF4, 0xF5, 0xFF};
    size_t start;
    for (int round = 0; round < 20000; round++) {
        uint8_t text[LONGEST];
        size_t size = compose(text, 4 + chance(LONGEST - 4));
        check(judge(text, size, &start) == VALID, "the reference is wrong", "", text, size);
        check_whole(text, size);
        for (uint32_t left = chance(3); size && left; left--)
            text[chance((uint32_t)size)] = chance(2) ? telling[chance(sizeof telling)] : (uint8_t)chance(256);
        size -= size ? chance(2) : 0;
        check_whole(text, size);
        size_t ends[4] = {chance((uint32_t)size + 1), 0, 0, size};
        ends[1] = ends[0] + chance((uint32_t)(size - ends[0]) + 1);
        ends[2] = ends[1] + chance((uint32_t)(size - ends[1]) + 1);
        for (size_t v = 0; v < variant_count; v++)
            check_stream(variants[v].call, variants[v].name, text, ends, 4);
    }
}

int main(void)
{
    static const char *const texts[] = {"a\xC3\xA9\xE8\xAA\x9E\xF0\x9F\x98\x80!", "\xED\xA0\x80", "\xE0\x9F\xBF",
                                        "\xF4\x90\x80\x80", "\xF0\x8F\xBF\xBF", "\xE2\x82", "\xC3\xA9\xA9"};
    variant_count = crest_utf8_variants(variants);
    check(crest_utf8_selected == crest_utf8_validate_scalar, "selected too early", "", NULL, 0);
    crest_utf8_init();
    check(crest_utf8_selected == variants[variant_count - 1].call, "the fastest is not selected", "", NULL, 0);
    variants[variant_count++] = (crest_utf8_variant){"dispatch", crest_utf8_validate};

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        check_every_split((const uint8_t *)texts[i], strlen(texts[i]));
    check_classes();
    check_ascii();
    check_mutations();
    for (int i = 0; i < 50; i++) {
        uint8_t text[LONGEST];
        check_splits_in_two(text, compose(text, 200));
    }
    for (size_t v = 0; v < variant_count; v++)
        printf("%s ", variants[v].name);
    printf("utf8: %lu checks passed\n", checks);
    return 0;
}
