/* Owns the text of the opening handshake: the request, and what its response must say (RFC 6455 section 4.1).
 * Knows no sockets. */
#ifndef LOAD_HANDSHAKE_H
#define LOAD_HANDSHAKE_H

#include <stddef.h>
#include <stdint.h>

enum { REQUEST_MAX = 1024, RESPONSE_MAX = 4096 };

/* Writes a request with a random key, and what Sec-WebSocket-Accept must answer. Returns its length. */
size_t handshake_request(const char *host, int port, const char *path, char *request, char *accept);

/* Ends the run if a complete response, up to and with its empty line and terminated by a NUL, does not open a
 * connection without extensions and subprotocol. */
void handshake_check(uint32_t id, const char *response, const char *accept);

#endif
