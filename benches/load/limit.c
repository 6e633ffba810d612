/* limit PORT echo|bcast|rooms: the least that a WebSocket server of whole messages can cost on this machine, as a unit.
 *
 * One thread, one epoll loop: recv, unmask in place, frame in place, send. All frames of one read are answered with one
 * write, and what goes to many leaves with one write for each connection and turn. What is left is what the kernel
 * costs. Connections are in the rooms that their request names, and a message goes to one of its sender's after the
 * other; a broadcast is to one room with everyone. All connections are in as many rooms. It checks nothing, trusts its
 * peer, and handles no fragmented message: it is no server for anyone but `load`. */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "accept.h"

enum { READ_SIZE = 1 << 18, EVENTS = 1024, BACKLOG = 4096, CONNECTIONS_MAX = 1 << 16, ROOMS_MAX = 1 << 20 };
enum { OPCODE_CLOSE = 8 };

struct bytes {
    uint8_t *at;
    size_t length, capacity;
};

struct list {
    int *at;
    size_t count, capacity;
};

struct membership {
    uint32_t room, place; /* place: in the room's members */
};

struct connection {
    bool open;
    struct membership *memberships;
    uint32_t membership_count, published;
    struct bytes in;    /* a frame that is not complete */
    struct bytes turn;  /* frames to be sent at the end of this turn, if it is in several rooms */
    struct bytes out;   /* what the kernel has not taken, from out_begin on */
    size_t out_begin;
};

struct room {
    struct list members;
    struct bytes turn; /* frames to be sent to all members at the end of this turn, if they are in no other room */
};

static struct connection *connections; /* by file descriptor */
static struct room *rooms;
static int epoll, listener;
static bool to_rooms;
static struct list busy_rooms, busy_members; /* with frames for the end of this turn */
static uint8_t buffer[READ_SIZE];

static void reserve(struct bytes *bytes, size_t capacity) {
    if (capacity <= bytes->capacity) return;
    bytes->capacity = capacity + capacity / 2;
    bytes->at = realloc(bytes->at, bytes->capacity);
    if (!bytes->at) exit(1);
}

static void append(struct bytes *bytes, const void *from, size_t n) {
    if (!n) return;
    reserve(bytes, bytes->length + n);
    memcpy(bytes->at + bytes->length, from, n);
    bytes->length += n;
}

static void push(struct list *list, int value) {
    if (list->count == list->capacity) {
        list->capacity = list->capacity * 2 + 8;
        list->at = realloc(list->at, list->capacity * sizeof *list->at);
        if (!list->at) exit(1);
    }
    list->at[list->count++] = value;
}

static void watch(int fd, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    epoll_ctl(epoll, operation, fd, &event);
}

static void answer(int fd, const void *from, size_t n) {
    struct connection *c = connections + fd;
    size_t taken = 0;
    if (!c->out.length) {
        ssize_t sent = send(fd, from, n, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) return; /* the next read finds out why */
        taken = sent < 0 ? 0 : (size_t)sent;
        if (taken == n) return;
        watch(fd, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
    }
    append(&c->out, (const uint8_t *)from + taken, n - taken);
}

static void flush(int fd) {
    struct connection *c = connections + fd;
    ssize_t sent = send(fd, c->out.at + c->out_begin, c->out.length - c->out_begin, MSG_NOSIGNAL);
    if (sent > 0) c->out_begin += (size_t)sent;
    if (c->out_begin < c->out.length) return;
    c->out_begin = c->out.length = 0;
    watch(fd, EPOLL_CTL_MOD, EPOLLIN);
}

/* ---- Rooms ---- */

static void join(int fd, uint32_t number) {
    struct connection *c = connections + fd;
    struct room *room = rooms + number % ROOMS_MAX;
    c->memberships = realloc(c->memberships, (c->membership_count + 1) * sizeof *c->memberships);
    if (!c->memberships) exit(1);
    c->memberships[c->membership_count++] = (struct membership){number % ROOMS_MAX, (uint32_t)room->members.count};
    push(&room->members, fd);
}

static void join_all(int fd, const char *request, size_t n) {
    static const char name[] = "?rooms=";
    char *at = memmem(request, n, name, sizeof name - 1);
    if (!at) return join(fd, 0);
    at += sizeof name - 2;
    do join(fd, (uint32_t)strtoul(at + 1, &at, 10));
    while (*at == ',');
}

static void leave(struct membership membership) {
    struct list *members = &rooms[membership.room].members;
    int last = members->at[--members->count];
    members->at[membership.place] = last;
    struct membership *moved = connections[last].memberships;
    while (moved->room != membership.room) moved++;
    moved->place = membership.place;
}

static void publish(struct connection *c, const uint8_t *frame, size_t n) {
    uint32_t number = c->memberships[c->published++ % c->membership_count].room;
    struct room *room = rooms + number;
    if (c->membership_count == 1) {
        if (!room->turn.length) push(&busy_rooms, (int)number);
        append(&room->turn, frame, n);
        return;
    }
    for (size_t i = 0; i < room->members.count; i++) {
        int fd = room->members.at[i];
        struct bytes *turn = &connections[fd].turn;
        if (!turn->length) push(&busy_members, fd);
        append(turn, frame, n);
    }
}

static void end_turn(void) {
    for (size_t i = 0; i < busy_rooms.count; i++) {
        struct room *room = rooms + busy_rooms.at[i];
        for (size_t k = 0; k < room->members.count; k++) answer(room->members.at[k], room->turn.at, room->turn.length);
        room->turn.length = 0;
    }
    for (size_t i = 0; i < busy_members.count; i++) {
        struct bytes *turn = &connections[busy_members.at[i]].turn;
        if (turn->length) answer(busy_members.at[i], turn->at, turn->length); /* else it has ended meanwhile */
        turn->length = 0;
    }
    busy_rooms.count = busy_members.count = 0;
}

/* ---- Connections ---- */

static void drop(int fd) {
    struct connection *c = connections + fd;
    for (uint32_t i = 0; i < c->membership_count; i++) leave(c->memberships[i]);
    free(c->memberships);
    free(c->in.at);
    free(c->turn.at);
    free(c->out.at);
    memset(c, 0, sizeof *c);
    close(fd);
}

static void open_handshake(int fd, size_t n) {
    static const char name[] = "Sec-WebSocket-Key: ";
    const char *key = memmem(buffer, n, name, sizeof name - 1);
    if (!key) return drop(fd);
    char accept[ACCEPT_LENGTH], response[256];
    accept_of(key + sizeof name - 1, accept);
    int length = snprintf(response, sizeof response,
                          "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Accept: %.28s\r\n\r\n",
                          accept);
    answer(fd, response, (size_t)length);
    connections[fd].open = true;
    if (to_rooms) join_all(fd, (const char *)buffer, n);
}

/* Bytes that the frame at `from` has in all, or that must have arrived before this is known. */
static size_t frame_length(const uint8_t *from, size_t n) {
    if (n < 2) return 2;
    size_t length = from[1] & 0x7f;
    if (length < 126) return 6 + length;
    size_t extended = length == 126 ? 2 : 8;
    if (n < 2 + extended) return 2 + extended;
    length = 0;
    for (size_t i = 0; i < extended; i++) length = length << 8 | from[2 + i];
    return 2 + extended + 4 + length;
}

/* Turns a complete client frame into a server's, which is four bytes shorter; `to` is not after `from`. */
static size_t turn_around(uint8_t *to, const uint8_t *from, size_t frame) {
    size_t header = (from[1] & 0x7f) < 126 ? 2 : (from[1] & 0x7f) == 126 ? 4 : 10;
    size_t n = frame - header - 4;
    uint64_t key;
    memcpy(&key, from + header, 4);
    memcpy((uint8_t *)&key + 4, from + header, 4);
    const uint8_t *payload = from + header + 4;
    memmove(to, from, header);
    to[1] &= 0x7f;
    to += header;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t word;
        memcpy(&word, payload + i, 8);
        word ^= key;
        memcpy(to + i, &word, 8);
    }
    for (; i < n; i++) to[i] = payload[i] ^ ((const uint8_t *)&key)[i & 7];
    return header + n;
}

/* Answers all complete frames; returns the bytes that they had. */
static size_t take_frames(int fd, uint8_t *bytes, size_t n) {
    size_t at = 0, answered = 0, length;
    while ((length = frame_length(bytes + at, n - at)) <= n - at) {
        uint8_t opcode = bytes[at] & 0x0f;
        size_t made = turn_around(bytes + answered, bytes + at, length);
        if (to_rooms && opcode != OPCODE_CLOSE)
            publish(connections + fd, bytes + answered, made);
        else
            answered += made;
        at += length;
    }
    if (answered) answer(fd, bytes, answered);
    return at;
}

static void handle_read(int fd) {
    struct connection *c = connections + fd;
    if (c->in.length) {
        /* The rest of a long frame goes where its beginning is. */
        size_t due = frame_length(c->in.at, c->in.length);
        reserve(&c->in, due > c->in.length + READ_SIZE ? due : c->in.length + READ_SIZE);
        ssize_t n = recv(fd, c->in.at + c->in.length, c->in.capacity - c->in.length, 0);
        if (n <= 0) {
            if (n == 0 || errno != EAGAIN) drop(fd);
            return;
        }
        c->in.length += (size_t)n;
        size_t taken = take_frames(fd, c->in.at, c->in.length);
        c->in.length -= taken;
        memmove(c->in.at, c->in.at + taken, c->in.length);
        return;
    }
    ssize_t n = recv(fd, buffer, sizeof buffer, 0);
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN) drop(fd);
        return;
    }
    if (!c->open) return open_handshake(fd, (size_t)n);
    size_t taken = take_frames(fd, buffer, (size_t)n);
    append(&c->in, buffer + taken, (size_t)n - taken);
}

static void accept_connections(void) {
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        watch(fd, EPOLL_CTL_ADD, EPOLLIN);
    }
}

int main(int argc, char **argv) {
    if (argc != 3 || (strcmp(argv[2], "echo") && strcmp(argv[2], "bcast") && strcmp(argv[2], "rooms"))) {
        fputs("usage: limit PORT echo|bcast|rooms\n", stderr);
        return 2;
    }
    to_rooms = strcmp(argv[2], "echo");
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max < CONNECTIONS_MAX ? files.rlim_max : CONNECTIONS_MAX;
    setrlimit(RLIMIT_NOFILE, &files);
    connections = calloc(files.rlim_cur, sizeof *connections);
    rooms = calloc(ROOMS_MAX, sizeof *rooms);

    int on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1])),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (!connections || !rooms || bind(listener, (struct sockaddr *)&address, sizeof address) ||
        listen(listener, BACKLOG)) {
        perror("limit");
        return 1;
    }
    epoll = epoll_create1(EPOLL_CLOEXEC);
    watch(listener, EPOLL_CTL_ADD, EPOLLIN);
    struct epoll_event events[EVENTS];
    for (;;) {
        int n = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                accept_connections();
                continue;
            }
            if (events[i].events & EPOLLOUT) flush(fd);
            if (events[i].events & ~EPOLLOUT) handle_read(fd);
        }
        end_turn();
    }
}
