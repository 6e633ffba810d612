#include "stream.h"

#include <string.h>

#include "fail.h"

/* SHIFTS: places at which a message's slice may begin; prime, so that neighbours' places do not fall into step. */
enum { SHIFTS = 4093 };

static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

uint64_t random_word(void) {
    static uint64_t state = 0x9e3779b97f4a7c15;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

void stream_init(struct stream *stream, size_t size) {
    stream->size = size;
    stream->text = malloc(size + SHIFTS);
    if (!stream->text) fail("no memory for a payload of %zu bytes", size);
    for (size_t i = 0; i < size + SHIFTS; i++) stream->text[i] = DIGITS[random_word() >> 32 & 63];
}

static void write_digits(uint64_t value, int digits, char *out) {
    for (int i = 0; i < digits; i++, value >>= 6) out[i] = DIGITS[value & 63];
}

static void write_name(uint32_t sender, uint64_t number, char out[NAME]) {
    write_digits(number, NUMBER_DIGITS, out);
    write_digits(sender, SENDER_DIGITS, out + NUMBER_DIGITS);
}

static const char *slice(const struct stream *stream, uint32_t sender, uint64_t number) {
    return stream->text + (number * 1021 + sender * 97ull) % SHIFTS;
}

/* `key` holds the four bytes of the masking key twice; n may be anything, but a message's pieces before the last must
 * have a multiple of four. */
static void mask(const void *from, size_t n, uint64_t key, uint8_t *to) {
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t word;
        memcpy(&word, (const uint8_t *)from + i, 8);
        word ^= key;
        memcpy(to + i, &word, 8);
    }
    uint8_t bytes[8];
    memcpy(bytes, &key, 8);
    for (; i < n; i++) to[i] = ((const uint8_t *)from)[i] ^ bytes[i & 7];
}

static uint8_t *write_header(uint8_t opcode, size_t n, uint8_t *out, uint64_t *key) {
    *out++ = 0x80 | opcode;
    int extended = n < 126 ? 0 : n < 1 << 16 ? 2 : 8;
    *out++ = (uint8_t)(0x80 | (extended == 0 ? n : extended == 2 ? 126 : 127));
    for (int i = extended - 1; i >= 0; i--) *out++ = (uint8_t)((uint64_t)n >> (8 * i));
    *key = random_word() >> 32;
    *key |= *key << 32;
    memcpy(out, key, 4);
    return out + 4;
}

size_t masked_frame(uint8_t opcode, const void *payload, size_t n, uint8_t *out) {
    uint64_t key;
    uint8_t *to = write_header(opcode, n, out, &key);
    mask(payload, n, key, to);
    return (size_t)(to - out) + n;
}

size_t stream_frame(const struct stream *stream, uint8_t opcode, uint32_t sender, uint64_t number, uint8_t *out) {
    uint64_t key;
    uint8_t *to = write_header(opcode, stream->size, out, &key);
    char name[NAME];
    write_name(sender, number, name);
    size_t named = stream->size < NAME ? stream->size : NAME;
    mask(name, named, key, to);
    if (stream->size > NAME) mask(slice(stream, sender, number) + NAME, stream->size - NAME, key, to + NAME);
    return (size_t)(to - out) + stream->size;
}

static size_t agreeing(const uint8_t *bytes, const char *expected, size_t n) {
    if (!memcmp(bytes, expected, n)) return n;
    size_t i = 0;
    while (bytes[i] == (uint8_t)expected[i]) i++;
    return i;
}

size_t stream_verify(const struct stream *stream, uint32_t sender, uint64_t number, size_t at, const uint8_t *bytes,
                     size_t n) {
    size_t named = 0;
    if (at < NAME) {
        char name[NAME];
        write_name(sender, number, name);
        named = n < NAME - at ? n : NAME - at;
        size_t right = agreeing(bytes, name + at, named);
        if (right < named) return right;
    }
    return named + agreeing(bytes + named, slice(stream, sender, number) + at + named, n - named);
}

static bool read_digits(const uint8_t *from, int digits, uint64_t *value) {
    *value = 0;
    for (int i = digits - 1; i >= 0; i--) {
        const char *digit = memchr(DIGITS, from[i], 64);
        if (!digit) return false;
        *value = *value << 6 | (uint64_t)(digit - DIGITS);
    }
    return true;
}

bool stream_name(const uint8_t *payload, size_t n, uint64_t *number, uint32_t *sender) {
    uint64_t value;
    if (n < NAME || !read_digits(payload, NUMBER_DIGITS, number)) return false;
    if (!read_digits(payload + NUMBER_DIGITS, SENDER_DIGITS, &value)) return false;
    *sender = (uint32_t)value;
    return true;
}
