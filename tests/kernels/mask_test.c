/* mask.h against a loop over bytes: every variant of this CPU, every size up to 300, alignment and key offset.
 *
 * Buffers have exactly the size that the kernel is told: AddressSanitizer sees one byte too many on either side.
 */

#define _POSIX_C_SOURCE 200112L

#include <stdio.h>
#include <stdlib.h>

#include "mask.h"

enum { SIZES = 301, ALIGNMENTS = 64, CANARY = 0xA5 };

static const uint8_t KEY[4] = {0x37, 0xFA, 0x21, 0x3D};
static unsigned long checks;

static void check(bool right, const char *what, const char *variant, size_t size, size_t src_align, size_t dst_align,
                  size_t offset)
{
    checks++;
    if (right)
        return;
    fprintf(stderr, "%s: %s, size %zu, src alignment %zu, dst alignment %zu, offset %zu\n", what, variant, size,
            src_align, dst_align, offset);
    exit(1);
}

/* `alignment` bytes of canary, then `size` of payload, then the end of the allocation. */
static uint8_t *allocate(size_t alignment, size_t size)
{
    void *block;
    if (posix_memalign(&block, ALIGNMENTS, alignment + size + !(alignment + size)) != 0)
        abort();
    memset(block, CANARY, alignment);
    return block;
}

static bool canary_lives(const uint8_t *block, size_t alignment)
{
    for (size_t i = 0; i < alignment; i++) {
        if (block[i] != CANARY)
            return false;
    }
    return true;
}

static void fill(uint8_t *bytes, size_t size, uint8_t top)
{
    static uint32_t state = 6455;
    for (size_t i = 0; i < size; i++) {
        state = state * 1664525u + 1013904223u;
        bytes[i] = (uint8_t)(state >> 24) & top;
    }
}

/* The naive loop. */
static uint8_t expect(uint8_t *dst, const uint8_t *src, size_t size, size_t offset)
{
    uint8_t seen = 0;
    for (size_t i = 0; i < size; i++) {
        dst[i] = src[i] ^ KEY[(offset + i) % 4];
        seen |= dst[i];
    }
    return seen;
}

static void check_variant(const crest_unmask_variant *variant, size_t size, size_t src_align, size_t offset)
{
    static const size_t dst_aligns[] = {0, 1, 8, 15, 31, 33};
    uint8_t plain[SIZES], expected[SIZES], seen;
    uint8_t *block = allocate(src_align, size), *src = block + src_align;

    /* ASCII every other time: with any bytes the OR is 0xFF for nearly every size. */
    fill(plain, size, size % 2 ? 0x7F : 0xFF);
    expect(src, plain, size, offset);
    seen = expect(expected, src, size, offset);

    size_t dst_align = dst_aligns[(src_align + size) % (sizeof dst_aligns / sizeof *dst_aligns)];
    uint8_t *other = allocate(dst_align, size), *dst = other + dst_align;
    check(variant->call(dst, src, size, KEY, offset) == seen, "wrong OR", variant->name, size, src_align, dst_align,
          offset);
    check(memcmp(dst, expected, size) == 0, "wrong bytes", variant->name, size, src_align, dst_align, offset);
    check(canary_lives(other, dst_align), "written before", variant->name, size, src_align, dst_align, offset);
    free(other);

    check(variant->call(src, src, size, KEY, offset) == seen, "wrong OR in place", variant->name, size, src_align,
          src_align, offset);
    check(memcmp(src, expected, size) == 0, "wrong bytes in place", variant->name, size, src_align, src_align, offset);
    check(canary_lives(block, src_align), "written before", variant->name, size, src_align, src_align, offset);
    free(block);
}

/* One byte decides the OR, wherever it is. */
static void check_or(const crest_unmask_variant *variant, size_t size)
{
    uint8_t *bytes = allocate(0, size);
    for (size_t at = 0; at < size; at++) {
        for (size_t i = 0; i < size; i++)
            bytes[i] = KEY[i % 4];
        bytes[at] ^= 0x80;
        check(variant->call(bytes, bytes, size, KEY, 0) == 0x80, "wrong OR of one byte", variant->name, size, at, 0, 0);
    }
    free(bytes);
}

static void check_large(const crest_unmask_variant *variant)
{
    enum { LARGE = (1 << 20) + 77 };
    uint8_t *src = allocate(0, LARGE), *dst = allocate(0, LARGE), *expected = allocate(0, LARGE), seen;
    fill(src, LARGE, 0xFF);
    seen = expect(expected, src, LARGE, 3);
    check(variant->call(dst, src, LARGE, KEY, SIZE_MAX) == seen, "wrong OR", variant->name, LARGE, 0, 0, 3);
    check(memcmp(dst, expected, LARGE) == 0, "wrong bytes", variant->name, LARGE, 0, 0, 3);
    free(src);
    free(dst);
    free(expected);
}

int main(void)
{
    crest_unmask_variant variants[CREST_UNMASK_VARIANTS + 1];
    size_t count = crest_unmask_variants(variants);

    check(crest_unmask_selected == crest_unmask_scalar, "selected too early", "", 0, 0, 0, 0);
    crest_mask_init();
    check(crest_unmask_selected == variants[count - 1].call, "the fastest is not selected", "", 0, 0, 0, 0);
    variants[count++] = (crest_unmask_variant){"dispatch", crest_unmask};

    for (size_t v = 0; v < count; v++) {
        for (size_t size = 0; size < SIZES; size++) {
            for (size_t src_align = 0; src_align < ALIGNMENTS; src_align++) {
                for (size_t offset = 0; offset < 4; offset++)
                    check_variant(&variants[v], size, src_align, offset);
            }
            check_or(&variants[v], size);
        }
        check_large(&variants[v]);
        printf("%s ", variants[v].name);
    }
    printf("mask: %lu checks passed\n", checks);
    return 0;
}
