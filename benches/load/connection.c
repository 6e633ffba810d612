#define _GNU_SOURCE
#include "connection.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "fail.h"
#include "handshake.h"

enum { READ_SIZE = 1 << 18, CONNECT_TIMEOUT_S = 5 };

/* ---- Writing ---- */

static uint8_t *reserve(struct connection *c, size_t n) {
    if (c->out_begin == c->out_end) c->out_begin = c->out_end = 0;
    if (c->out_end + n > c->out_capacity) {
        c->out_capacity = (c->out_end + n) * 2;
        c->out = realloc(c->out, c->out_capacity);
        if (!c->out) fail("no memory for what waits to be sent");
    }
    return c->out + c->out_end;
}

static void watch(struct connection *c, const struct target *target, bool write) {
    if (c->wants_write == write) return;
    c->wants_write = write;
    struct epoll_event event = {.events = EPOLLIN | (write ? EPOLLOUT : 0), .data.ptr = c};
    if (epoll_ctl(target->epoll, EPOLL_CTL_MOD, c->fd, &event)) fail("epoll_ctl: %s", strerror(errno));
}

void connection_flush(struct connection *c, const struct target *target) {
    while (c->out_begin < c->out_end) {
        ssize_t n = send(c->fd, c->out + c->out_begin, c->out_end - c->out_begin, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EINTR) continue;
            if (errno == EAGAIN) break;
            if (errno == EPIPE && c->state == CLOSED) break; /* the server did not wait for the answer */
            fail("connection %u: send: %s", c->id, strerror(errno));
        }
        c->out_begin += (size_t)n;
    }
    watch(c, target, c->out_begin < c->out_end);
}

void connection_post(struct connection *c, const struct target *target, uint64_t n) {
    uint8_t *out = reserve(c, n * (target->stream->size + CLIENT_HEADER_MAX));
    for (uint64_t i = 0; i < n; i++) out += stream_frame(target->stream, target->opcode, c->id, c->sent++, out);
    c->out_end = (size_t)(out - c->out);
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    c->sent_at = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    connection_flush(c, target);
}

static void send_control(struct connection *c, const struct target *target, uint8_t opcode, const void *payload,
                         size_t n) {
    c->out_end += masked_frame(opcode, payload, n, reserve(c, n + CLIENT_HEADER_MAX));
    connection_flush(c, target);
}

void connection_close(struct connection *c, const struct target *target) {
    c->state = CLOSING;
    send_control(c, target, OPCODE_CLOSE, "\x03\xe8", 2); /* 1000 */
}

/* ---- Opening and ending ---- */

void connection_open(struct connection *c, const struct target *target) {
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0) fail("socket: %s", strerror(errno));
    int on = 1;
    struct timeval limit = {.tv_sec = CONNECT_TIMEOUT_S};
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (target->source) {
        struct sockaddr_in source = {.sin_family = AF_INET, .sin_addr.s_addr = target->source};
        setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        if (bind(c->fd, (const struct sockaddr *)&source, sizeof source))
            fail("connection %u: bind: %s", c->id, strerror(errno));
    }
    if (connect(c->fd, (const struct sockaddr *)&target->address, sizeof target->address))
        fail("connection %u: connect: %s", c->id, strerror(errno));
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(target->epoll, EPOLL_CTL_ADD, c->fd, &event)) fail("epoll_ctl: %s", strerror(errno));

    c->state = OPENING;
    c->response = malloc(RESPONSE_MAX + 1);
    if (!c->response) fail("no memory for a handshake response");
    c->response_length = 0;
    char path[REQUEST_MAX];
    if (target->rooms) rooms_path(target->rooms, c->id, target->path, path, sizeof path);
    uint8_t *out = reserve(c, REQUEST_MAX);
    c->out_end += handshake_request(target->host, target->port, target->rooms ? path : target->path, (char *)out,
                                    c->accept);
    connection_flush(c, target);
}

void connection_reset(struct connection *c) {
    if (c->state == UNCONNECTED) return;
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(c->fd);
    free(c->response);
    c->response = NULL;
    c->out_begin = c->out_end = 0;
    c->wants_write = false;
    c->state = UNCONNECTED;
}

/* ---- Reading ---- */

/* Takes bytes of the handshake response; returns how many, all or those up to its end. */
static size_t read_response(struct connection *c, const uint8_t *bytes, size_t n) {
    size_t before = c->response_length, room = RESPONSE_MAX - before;
    size_t taken = n < room ? n : room;
    memcpy(c->response + before, bytes, taken);
    c->response_length += taken;
    c->response[c->response_length] = 0;
    const char *end = memmem(c->response, c->response_length, "\r\n\r\n", 4);
    if (!end) {
        if (c->response_length == RESPONSE_MAX) fail("connection %u: the handshake response does not end", c->id);
        return n;
    }
    size_t length = (size_t)(end + 4 - c->response);
    c->response[length] = 0;
    handshake_check(c->id, c->response, c->accept);
    free(c->response);
    c->response = NULL;
    c->state = OPEN;
    return length - before;
}

static void check_header(const struct connection *c, const struct target *target) {
    uint8_t first = c->header[0], length7 = c->header[1] & 0x7f, opcode = first & 0x0f;
    if (c->header[1] & 0x80) fail("connection %u: the server masked a frame", c->id);
    if (first & 0x70) fail("connection %u: reserved bits 0x%02x are set", c->id, first & 0x70);
    if ((length7 == 126 && c->frame_left < 126) || (length7 == 127 && c->frame_left < 1 << 16))
        fail("connection %u: length %llu is not in its shortest form", c->id, (unsigned long long)c->frame_left);
    if (c->frame_left >> 63) fail("connection %u: the highest bit of a length is set", c->id);

    if (opcode >= OPCODE_CLOSE) {
        if (opcode > OPCODE_PONG) fail("connection %u: unknown opcode %u", c->id, opcode);
        if (!(first & 0x80)) fail("connection %u: a fragmented control frame", c->id);
        if (c->frame_left > 125) fail("connection %u: a control frame of more than 125 bytes", c->id);
        if (opcode == OPCODE_PONG) fail("connection %u: a Pong without a Ping", c->id);
        return;
    }
    if (c->in_message && opcode != OPCODE_CONTINUATION)
        fail("connection %u: opcode %u inside a fragmented message", c->id, opcode);
    if (!c->in_message && opcode != target->opcode)
        fail("connection %u: opcode %u instead of %u", c->id, opcode, target->opcode);
    if (!target->rooms && c->received >= c->sender->sent)
        fail("connection %u: more messages than the %llu that were sent (duplicated?)", c->id,
             (unsigned long long)c->sender->sent);
    if (c->message_at + c->frame_left > target->stream->size)
        fail("connection %u: message %llu has at least %llu bytes instead of %zu", c->id,
             (unsigned long long)c->received, (unsigned long long)(c->message_at + c->frame_left),
             target->stream->size);
}

/* Takes bytes of a frame header; returns how many. */
static size_t read_header(struct connection *c, const struct target *target, const uint8_t *bytes, size_t n) {
    size_t taken = 0;
    while (taken < n) {
        c->header[c->header_length++] = bytes[taken++];
        if (c->header_length < 2) continue;
        uint8_t length7 = c->header[1] & 0x7f;
        uint8_t complete = length7 < 126 ? 2 : length7 == 126 ? 4 : 10;
        if (c->header_length < complete) continue;
        c->frame_left = complete == 2 ? length7 : 0;
        for (int i = 2; i < complete; i++) c->frame_left = c->frame_left << 8 | c->header[i];
        c->header_length = 0;
        c->control_length = 0;
        c->in_payload = true;
        check_header(c, target);
        break;
    }
    return taken;
}

/* Says what is wrong with the message that is due as clearly as its payload allows. */
static _Noreturn void fail_payload(const struct connection *c, const struct target *target, const uint8_t *payload,
                                   size_t n, size_t wrong) {
    unsigned long long due = c->number, number;
    uint64_t named;
    uint32_t sender;
    /* What arrived is another message only if all of it is; otherwise its name is what was corrupted. */
    if (c->message_at == 0 && stream_name(payload, n, &named, &sender) &&
        stream_verify(target->stream, sender, named, 0, payload, n) == n) {
        number = named;
        if (sender != c->sender->id)
            fail("connection %u: message %llu of sender %u where %llu of sender %u was due", c->id, number, sender, due,
                 c->sender->id);
        if (number < due)
            fail("connection %u: message %llu again where %llu was due (duplicated or out of order)", c->id, number,
                 due);
        fail("connection %u: message %llu where %llu was due (lost or out of order)", c->id, number, due);
    }
    fail("connection %u: message %llu is corrupted: byte %zu is 0x%02x", c->id, due, c->message_at + wrong,
         payload[wrong]);
}

/* Takes bytes of a payload's name, which in rooms says what the rest of the message must be; returns how many. */
static size_t read_name(struct connection *c, const struct target *target, const uint8_t *bytes, size_t n) {
    size_t taken = c->message_at < NAME ? NAME - c->message_at : 0;
    if (taken > n) taken = n;
    memcpy(c->name + c->message_at, bytes, taken);
    if (!taken || c->message_at + taken < NAME) return taken;
    uint32_t sender;
    if (!stream_name(c->name, NAME, &c->number, &sender))
        fail("connection %u: a message that does not name its sender", c->id);
    rooms_take(target->rooms, c->id, sender, c->number);
    c->sender = target->connections + sender;
    return taken;
}

static void end_message(struct connection *c, const struct target *target) {
    if (c->message_at != target->stream->size)
        fail("connection %u: message %llu has %zu bytes instead of %zu", c->id, (unsigned long long)c->number,
             c->message_at, target->stream->size);
    if (c->number >= c->sender->sent)
        fail("connection %u: message %llu of sender %u, which has sent only %llu", c->id,
             (unsigned long long)c->number, c->sender->id, (unsigned long long)c->sender->sent);
    if (target->received) target->received(c);
    c->in_message = false;
    c->message_at = 0;
    c->number = ++c->received;
}

static void end_control(struct connection *c, const struct target *target, uint8_t opcode) {
    if (opcode == OPCODE_PING) {
        send_control(c, target, OPCODE_PONG, c->control, c->control_length);
        return;
    }
    if (c->control_length == 1) fail("connection %u: a Close frame with half a close code", c->id);
    bool answered = c->state == CLOSING;
    c->state = CLOSED;
    if (answered) return;
    unsigned code = c->control_length ? (unsigned)c->control[0] << 8 | c->control[1] : 1005;
    if (code != target->awaited_code)
        fail("connection %u: the server closed with %u: %.*s", c->id, code,
             c->control_length > 2 ? c->control_length - 2 : 0, (const char *)c->control + 2);
    send_control(c, target, OPCODE_CLOSE, c->control, 2);
}

/* Takes bytes of a frame's payload and, when they are its last, of the message; returns how many. */
static size_t read_payload(struct connection *c, const struct target *target, const uint8_t *bytes, size_t n,
                           unsigned *messages) {
    uint8_t opcode = c->header[0] & 0x0f;
    size_t taken = n < c->frame_left ? n : (size_t)c->frame_left;
    c->frame_left -= taken;
    if (opcode >= OPCODE_CLOSE) {
        memcpy(c->control + c->control_length, bytes, taken);
        c->control_length += (uint8_t)taken;
    } else {
        size_t right = target->rooms ? read_name(c, target, bytes, taken) : 0;
        if (right < taken)
            right += stream_verify(target->stream, c->sender->id, c->number, c->message_at + right, bytes + right,
                                   taken - right);
        if (right < taken) fail_payload(c, target, bytes, taken, right);
        c->message_at += taken;
    }
    if (c->frame_left) return taken;

    c->in_payload = false;
    if (opcode >= OPCODE_CLOSE) {
        end_control(c, target, opcode);
    } else if (c->header[0] & 0x80) {
        end_message(c, target);
        ++*messages;
    } else {
        c->in_message = true;
    }
    return taken;
}

unsigned connection_read(struct connection *c, const struct target *target) {
    static uint8_t buffer[READ_SIZE];
    ssize_t n = recv(c->fd, buffer, sizeof buffer, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    if (n <= 0 && c->state == CLOSED) {
        connection_reset(c);
        return 0;
    }
    if (n < 0) fail("connection %u: recv: %s", c->id, strerror(errno));
    if (n == 0)
        fail("connection %u: the server ended the TCP connection %s", c->id,
             c->state == OPENING ? "before the handshake" : "without a closing handshake");
    unsigned messages = 0;
    const uint8_t *at = buffer, *end = buffer + n;
    while (at < end || (c->in_payload && !c->frame_left)) {
        size_t left = (size_t)(end - at);
        if (c->state == CLOSED) fail("connection %u: bytes after the Close frame", c->id);
        if (c->state == OPENING)
            at += read_response(c, at, left);
        else if (!c->in_payload)
            at += read_header(c, target, at, left);
        else
            at += read_payload(c, target, at, left, &messages);
    }
    return messages;
}
