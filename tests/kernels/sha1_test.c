/* sha1.h against the examples of FIPS 180-4's validation suite, and every size up to 300 against a digest of digests.
 *
 * Buffers have exactly the size that the kernel is told: AddressSanitizer sees one byte too many on either side.
 */

#include <stdio.h>
#include <stdlib.h>

#include "sha1.h"

enum { SIZES = 301 };

static unsigned long checks;

static void check(const char *what, const uint8_t digest[CREST_SHA1_SIZE], const char *wanted)
{
    char shown[2 * CREST_SHA1_SIZE + 1];
    for (int i = 0; i < CREST_SHA1_SIZE; i++)
        snprintf(shown + 2 * i, 3, "%02x", digest[i]);
    checks++;
    if (strcmp(shown, wanted) == 0)
        return;
    fprintf(stderr, "sha1 of %s: %s, not %s\n", what, shown, wanted);
    exit(1);
}

/* The digest of `count` times this text, from memory of just that size. */
static void check_text(const char *text, size_t count, const char *wanted)
{
    uint8_t digest[CREST_SHA1_SIZE];
    size_t size = strlen(text), total = size * count;
    uint8_t *copy = malloc(total ? total : 1);
    for (size_t i = 0; i < count; i++)
        memcpy(copy + i * size, text, size);
    crest_sha1(copy, total, digest);
    free(copy);
    check(text, digest, wanted);
}

int main(void)
{
    check_text("", 1, "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    check_text("abc", 1, "a9993e364706816aba3e25717850c26c9cd0d89d");
    check_text("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
               "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
    check_text("a", 1000000, "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
    /* The example of RFC 6455 section 1.3. */
    check_text("dGhlIHNhbXBsZSBub25jZQ==258EAFA5-E914-47DA-95CA-C5AB0DC85B11", 1,
               "b37a4f2cc0624f1690f64606cf385945b2bec4ea");

    uint8_t digests[SIZES * CREST_SHA1_SIZE], digest[CREST_SHA1_SIZE];
    for (size_t size = 0; size < SIZES; size++) {
        uint8_t *bytes = malloc(size ? size : 1);
        for (size_t i = 0; i < size; i++)
            bytes[i] = (uint8_t)(i * 7 + size);
        crest_sha1(bytes, size, digests + size * CREST_SHA1_SIZE);
        free(bytes);
    }
    crest_sha1(digests, sizeof digests, digest);
    check("the digests of every size", digest, "e570432b09ac39935ad256f819b381ba3900dbbd");

    printf("sha1: %lu checks\n", checks);
    return 0;
}
