/* Owns the answer to Sec-WebSocket-Key (RFC 6455 section 4.2.2, /accept/), and the SHA-1 and base64 it needs.
 * Knows no sockets and no HTTP. */
#ifndef LOAD_ACCEPT_H
#define LOAD_ACCEPT_H

#include <stddef.h>
#include <stdint.h>

enum { KEY_LENGTH = 24, ACCEPT_LENGTH = 28 };

/* Writes the base64 of n bytes to `out`: 4 characters for every 3 bytes begun, and no terminator. */
void base64(const uint8_t *bytes, size_t n, char *out);

/* Writes the ACCEPT_LENGTH characters that answer a key of KEY_LENGTH characters; no terminator. */
void accept_of(const char *key, char *out);

#endif
