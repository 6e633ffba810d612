/* SHA-1 (FIPS 180-4 section 6.1), of bytes that are all there.
 *
 * For the opening handshake, which proves with it that the server has read the key (RFC 6455 section 1.3), and hides
 * nothing: SHA-1 is broken for what it was made for. Python's, by way of OpenSSL, takes three times as long for the
 * two blocks of a key, most of it for finding the algorithm, and is missing where a policy forbids SHA-1. */

#ifndef CREST_SHA1_H
#define CREST_SHA1_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { CREST_SHA1_SIZE = 20, CREST_SHA1_BLOCK = 64 };

static inline uint32_t crest_sha1_rotate(uint32_t word, int by)
{
    return word << by | word >> (32 - by);
}

static inline uint32_t crest_sha1_load(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static inline void crest_sha1_store(uint8_t *bytes, uint32_t word)
{
    for (int i = 0; i < 4; i++)
        bytes[i] = (uint8_t)(word >> (24 - 8 * i));
}

/* Five rounds with f(b, c, d) and its constant. Each round moves the five words of the state one on: here they take
 * each other's places by name, which makes half the instructions of moving them. */
#define CREST_SHA1_ROUND(a, b, c, d, e, f, constant, word)                  \
    (e += crest_sha1_rotate(a, 5) + f(b, c, d) + (constant) + (word), b = crest_sha1_rotate(b, 30))

#define CREST_SHA1_ROUNDS(f, constant, words)                               \
    do {                                                                    \
        CREST_SHA1_ROUND(a, b, c, d, e, f, constant, (words)[0]);           \
        CREST_SHA1_ROUND(e, a, b, c, d, f, constant, (words)[1]);           \
        CREST_SHA1_ROUND(d, e, a, b, c, f, constant, (words)[2]);           \
        CREST_SHA1_ROUND(c, d, e, a, b, f, constant, (words)[3]);           \
        CREST_SHA1_ROUND(b, c, d, e, a, f, constant, (words)[4]);           \
    } while (0)

static inline uint32_t crest_sha1_choose(uint32_t b, uint32_t c, uint32_t d)
{
    return d ^ (b & (c ^ d));
}

static inline uint32_t crest_sha1_parity(uint32_t b, uint32_t c, uint32_t d)
{
    return b ^ c ^ d;
}

static inline uint32_t crest_sha1_majority(uint32_t b, uint32_t c, uint32_t d)
{
    return (b & c) | (d & (b | c));
}

static inline void crest_sha1_add(uint32_t hash[5], const uint8_t block[CREST_SHA1_BLOCK])
{
    uint32_t words[80];
    uint32_t a = hash[0], b = hash[1], c = hash[2], d = hash[3], e = hash[4];
    int t;
    for (t = 0; t < 16; t++)
        words[t] = crest_sha1_load(block + 4 * t);
    for (; t < 80; t++)
        words[t] = crest_sha1_rotate(words[t - 3] ^ words[t - 8] ^ words[t - 14] ^ words[t - 16], 1);
    for (t = 0; t < 20; t += 5)
        CREST_SHA1_ROUNDS(crest_sha1_choose, 0x5a827999, words + t);
    for (; t < 40; t += 5)
        CREST_SHA1_ROUNDS(crest_sha1_parity, 0x6ed9eba1, words + t);
    for (; t < 60; t += 5)
        CREST_SHA1_ROUNDS(crest_sha1_majority, 0x8f1bbcdc, words + t);
    for (; t < 80; t += 5)
        CREST_SHA1_ROUNDS(crest_sha1_parity, 0xca62c1d6, words + t);
    hash[0] += a;
    hash[1] += b;
    hash[2] += c;
    hash[3] += d;
    hash[4] += e;
}

static inline void crest_sha1(const uint8_t *data, size_t size, uint8_t digest[CREST_SHA1_SIZE])
{
    uint32_t hash[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    uint8_t last[2 * CREST_SHA1_BLOCK] = {0};
    uint64_t bits = (uint64_t)size * 8;
    size_t padded;
    for (; size >= CREST_SHA1_BLOCK; size -= CREST_SHA1_BLOCK, data += CREST_SHA1_BLOCK)
        crest_sha1_add(hash, data);
    /* Behind the message come a 1 bit, zeros, and the message's length in bits. */
    if (size)
        memcpy(last, data, size);
    last[size] = 0x80;
    padded = size + 1 + 8 <= CREST_SHA1_BLOCK ? CREST_SHA1_BLOCK : 2 * CREST_SHA1_BLOCK;
    crest_sha1_store(last + padded - 8, (uint32_t)(bits >> 32));
    crest_sha1_store(last + padded - 4, (uint32_t)bits);
    for (size_t at = 0; at < padded; at += CREST_SHA1_BLOCK)
        crest_sha1_add(hash, last + at);
    for (int i = 0; i < 5; i++)
        crest_sha1_store(digest + 4 * i, hash[i]);
}

#endif
