/* Owns what the messages say: every payload names its sender and its number, and every byte of it can be foretold.
 *
 * A payload opens with the number of the message (8 characters, least significant first) and its sender (4); the rest
 * is a slice of one long random text, begun at a place that number and sender choose. So the receiver, who knows which
 * message of whom is due, finds a message that is lost, repeated, out of order, meant for someone else, put together
 * from two, or wrong in one byte. Shorter payloads hold as much of this as they have room for. All is ASCII.
 *
 * Knows no sockets, and of frames only how a client's is written (RFC 6455 section 5.2). */
#ifndef LOAD_STREAM_H
#define LOAD_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { OPCODE_CONTINUATION = 0, OPCODE_TEXT = 1, OPCODE_BINARY = 2 };
enum { OPCODE_CLOSE = 8, OPCODE_PING = 9, OPCODE_PONG = 10 };
enum { CLIENT_HEADER_MAX = 14 };
enum { NUMBER_DIGITS = 8, SENDER_DIGITS = 4, NAME = NUMBER_DIGITS + SENDER_DIGITS };

struct stream {
    size_t size; /* bytes of payload in each message */
    char *text;
};

void stream_init(struct stream *stream, size_t size);

/* Writes one masked, unfragmented frame with message `number` of `sender`; returns its length, at most
 * CLIENT_HEADER_MAX + size. */
size_t stream_frame(const struct stream *stream, uint8_t opcode, uint32_t sender, uint64_t number, uint8_t *out);

/* Compares n payload bytes, from position `at` on, with message `number` of `sender`; returns how many are right before
 * the first wrong one. */
size_t stream_verify(const struct stream *stream, uint32_t sender, uint64_t number, size_t at, const uint8_t *bytes,
                     size_t n);

/* Reads number and sender off a payload; false if it is too short to name them or does not. */
bool stream_name(const uint8_t *payload, size_t n, uint64_t *number, uint32_t *sender);

/* Writes one masked frame with any payload. */
size_t masked_frame(uint8_t opcode, const void *payload, size_t n, uint8_t *out);

/* Random bytes, from the same sequence in every run. */
uint64_t random_word(void);

#endif
