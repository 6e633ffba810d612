/* Owns one client connection: the opening handshake, writing messages, and checking everything that the server sends.
 *
 * Checked: the handshake response, each frame header (RFC 6455 section 5.2), and by stream.h each payload byte and the
 * order of the messages. The first error ends the run. Does not know what is measured, nor when messages are due. */
#ifndef LOAD_CONNECTION_H
#define LOAD_CONNECTION_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "accept.h"
#include "rooms.h"
#include "stream.h"

enum connection_state { UNCONNECTED, OPENING, OPEN, CLOSING, CLOSED };

struct connection {
    int fd;
    enum connection_state state;
    uint32_t id;
    const struct connection *sender; /* whose messages it receives: itself, or in a broadcast the one that sends; in
                                        rooms, of the message that has begun */
    uint64_t sent, received;         /* messages */
    uint64_t sent_at;                /* nanoseconds, when the last one was written */
    uint64_t number;                 /* of the message that arrives, among its sender's */

    uint8_t *out; /* what the kernel has not taken: bytes out_begin to out_end */
    size_t out_begin, out_end, out_capacity;
    bool wants_write;

    char accept[ACCEPT_LENGTH];
    char *response; /* the part of the handshake response that has arrived; NULL once it is complete */
    size_t response_length;

    uint8_t header[10]; /* of the frame that is arriving */
    uint8_t header_length;
    uint8_t control[125]; /* payload of the control frame that is arriving */
    uint8_t control_length;
    uint64_t frame_left; /* payload bytes that are still to come */
    bool in_payload;
    bool in_message; /* a fragment has arrived and its last one has not */
    size_t message_at;
    uint8_t name[NAME]; /* in rooms: what the payload opens with */
};

/* What all connections of a run have in common. */
struct target {
    struct sockaddr_in address;
    const char *host, *path;
    int port;
    int epoll;
    const struct stream *stream;
    uint8_t opcode; /* of the messages */
    struct connection *connections;
    struct rooms *rooms; /* NULL: each connection knows its sender */
    void (*received)(const struct connection *c); /* called for each message, with its sender and number; may be NULL */
    in_addr_t source;       /* the clients' own address; 0: the kernel chooses */
    unsigned awaited_code;  /* a Close frame with this code is answered, and ends the connection; any other is wrong */
};

/* Connects, sends the handshake request and registers with epoll (data.ptr is the connection). */
void connection_open(struct connection *c, const struct target *target);

/* Reads once and checks what came. Returns how many messages were completed by it. */
unsigned connection_read(struct connection *c, const struct target *target);

/* Sends the next n messages, with one write if the kernel takes them; the rest when the socket is writable. */
void connection_post(struct connection *c, const struct target *target, uint64_t n);

/* Goes on writing what the kernel did not take. */
void connection_flush(struct connection *c, const struct target *target);

/* Starts the closing handshake: CLOSING, and CLOSED when the server's Close frame has arrived. */
void connection_close(struct connection *c, const struct target *target);

/* Ends the TCP connection by a reset, so that none of its ports stays in TIME_WAIT. */
void connection_reset(struct connection *c);

#endif
