/* System calls that crest itself makes on sockets: send(2) on many pieces of memory, recv(2), accept(2). Knows sockets;
 * no Python, no frames. On Windows these are never called: the event loop's transports do all of it. */
#ifndef CREST_SYSCALLS_H
#define CREST_SYSCALLS_H

#include <stddef.h>
#include <stdint.h>

/* A run of bytes that waits to be sent. `owner` keeps the memory alive; this file never looks at it. */
typedef struct crest_piece {
    void *owner;
    const char *data;
    size_t size;
} crest_piece;

enum {
    CREST_WOULD_BLOCK = -1, /* the kernel's send buffer is full: not an error */
    CREST_BROKEN = -2,      /* the connection is gone; its reading side will find out, too */
    CREST_REFUSED = -3,     /* there is no room for a connection, in this process or in the system; or worse */
};

/* The address at the other end of a TCP connection. */
typedef struct crest_address {
    uint8_t bytes[16]; /* 4 or 16 of them */
    uint16_t port;
    uint8_t version; /* of IP: 4 or 6; 0: the peer has no such address */
} crest_address;

enum { CREST_ADDRESS_TEXT = 48 };

enum { CREST_UNIT = 64, CREST_MOST_UNITS = 255 };

/* The units of so many bytes, 1 to CREST_MOST_UNITS; 0 for UINT32_MAX, which is any number. */
static inline uint8_t crest_units(uint32_t bytes) {
    uint32_t units = bytes / CREST_UNIT;
    if (bytes == UINT32_MAX) return 0;
    return (uint8_t)(units > CREST_MOST_UNITS ? CREST_MOST_UNITS : units ? units : 1);
}

/* True if a send of `size` bytes is to end a segment of TCP. `sent` counts the units since one ended, and `most` is how
 * many there may be; 0: any number. To end one with each send would be worse than never: small segments go on filling
 * a window that is almost closed, and make the peer's kernel add to its buffer. */
static inline int crest_ends_segment(uint8_t *sent, uint8_t most, size_t size) {
    size_t units = *sent + size / CREST_UNIT + 1;
    if (most == 0) return 0;
    *sent = (uint8_t)(units < most ? units : 0);
    return units >= most;
}

#ifdef _WIN32

#include <time.h>

/* Nanoseconds, of a clock that can be set: C has no other. */
static inline uint64_t crest_now(void) {
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

enum { CREST_MONOTONIC = 0 };

static inline uint32_t crest_milliseconds(void) {
    return (uint32_t)(crest_now() / 1000000u);
}

static inline int crest_has_input(int fd) {
    (void)fd;
    return 0;
}

static inline int crest_takes_output(int fd, uint32_t *acknowledged) {
    (void)fd, (void)acknowledged;
    return 0;
}

static inline int crest_is_silent(int fd, uint32_t *exchanged) {
    (void)fd, (void)exchanged;
    return 0;
}

static inline ptrdiff_t crest_send(int fd, const crest_piece *pieces, size_t count, int ends) {
    (void)fd, (void)pieces, (void)count, (void)ends;
    return CREST_BROKEN;
}

static inline ptrdiff_t crest_send_some(int fd, const crest_piece *pieces, size_t count, size_t most, int ends) {
    (void)fd, (void)pieces, (void)count, (void)most, (void)ends;
    return CREST_BROKEN;
}

static inline void crest_limit_ahead(int fd, uint32_t most) {
    (void)fd, (void)most;
}

static inline void crest_prefetch(const void *address) {
    (void)address;
}

static inline ptrdiff_t crest_recv(int fd, char *data, size_t room) {
    (void)fd, (void)data, (void)room;
    return CREST_BROKEN;
}

static inline ptrdiff_t crest_peek(int fd, char *data, size_t room) {
    (void)fd, (void)data, (void)room;
    return CREST_BROKEN;
}

static inline int crest_accept(int fd, crest_address *peer) {
    (void)fd, (void)peer;
    return CREST_BROKEN;
}

static inline int crest_is_readable(int fd) {
    (void)fd;
    return 0;
}

static inline int crest_address_text(const crest_address *address, char *text) {
    (void)address, (void)text;
    return 0;
}

static inline int crest_process(void) {
    return 0; /* there is no fork */
}

static inline void crest_shut_down(int fd) {
    (void)fd;
}

static inline int crest_shut_down_writing(int fd) {
    (void)fd;
    return -1;
}

static inline void crest_close(int fd) {
    (void)fd;
}

#else

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/poll.h> /* not <poll.h>: crest has a poll.h of its own */
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <linux/tcp.h> /* the tcp_info of glibc lacks the newer half of the fields */
#else
#include <netinet/tcp.h>
#endif

#ifndef MSG_NOSIGNAL /* macOS: CPython ignores SIGPIPE at start-up */
#define MSG_NOSIGNAL 0
#endif

#ifdef __linux__
enum { CREST_ENDS = MSG_EOR };
#else
enum { CREST_ENDS = 0 }; /* BSD refuses MSG_EOR on a stream */
#endif

enum { CREST_PIECES_A_CALL = 64 };

/* Nanoseconds, of a clock that can not be set. */
static inline uint64_t crest_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

enum { CREST_MONOTONIC = 1 }; /* crest_now and crest_milliseconds never go back */

/* Milliseconds modulo 2**32, late by 10 at most. It takes a few instructions. */
static inline uint32_t crest_milliseconds(void) {
    struct timespec now;
#ifdef CLOCK_MONOTONIC_COARSE
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
#else
    clock_gettime(CLOCK_MONOTONIC, &now);
#endif
    return (uint32_t)now.tv_sec * 1000u + (uint32_t)(now.tv_nsec / 1000000);
}

/* True if something has come that is not read yet; the end of the stream and an error count. */
static inline int crest_has_input(int fd) {
    char byte;
    if (fd < 0) return 0;
    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
}

#ifdef __linux__
/* True if the kernel tells the state of the connection. Fields that an older kernel does not know are 0. */
static inline int crest_tcp_info(int fd, struct tcp_info *info) {
    socklen_t size = sizeof *info;
    memset(info, 0, sizeof *info);
    return fd >= 0 && getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, &size) == 0;
}
#endif

/* True if the peer's kernel has acknowledged bytes since the last call with the same `acknowledged`, and more bytes
 * wait for it: the peer is busy taking what was sent before. Always 0 where the kernel does not tell. */
static inline int crest_takes_output(int fd, uint32_t *acknowledged) {
#ifdef __linux__
    struct tcp_info info;
    uint32_t before = *acknowledged;
    if (!crest_tcp_info(fd, &info)) return 0;
    *acknowledged = (uint32_t)info.tcpi_bytes_acked;
    return *acknowledged != before && (info.tcpi_unacked || info.tcpi_notsent_bytes);
#else
    (void)fd, (void)acknowledged;
    return 0;
#endif
}

/* True if the peer's kernel has been silent since the last call with the same `exchanged`, though it owes an answer.
 * Silent: neither bytes nor an acknowledgement have come. It owes an answer to bytes that were sent, or to more than
 * one probe of its window. Always 0 where the kernel does not tell. */
static inline int crest_is_silent(int fd, uint32_t *exchanged) {
#ifdef __linux__
    struct tcp_info info;
    uint32_t before = *exchanged;
    if (!crest_tcp_info(fd, &info)) return 0;
    *exchanged = (uint32_t)(info.tcpi_bytes_acked + info.tcpi_bytes_received);
    return *exchanged == before && (info.tcpi_unacked || info.tcpi_probes > 1);
#else
    (void)fd, (void)exchanged;
    return 0;
#endif
}

static inline void crest_prefetch(const void *address) {
    __builtin_prefetch(address);
}

/* Have a socket of TCP take bytes only while fewer than `most` of those that it has taken wait to be sent. Linux counts
 * when a segment begins, and a segment that waits grows with each send, to 64 KiB: see crest_ends_segment. Where there
 * is no such option, and for other sockets, nothing changes. */
static inline void crest_limit_ahead(int fd, uint32_t most) {
#ifdef TCP_NOTSENT_LOWAT
    int bytes = most < INT32_MAX ? (int)most : INT32_MAX;
    (void)!setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bytes, sizeof bytes);
#else
    (void)fd, (void)most;
#endif
}

static inline ptrdiff_t crest_taken(ssize_t sent) {
    if (sent >= 0) return sent;
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS || errno == ENOMEM ? CREST_WOULD_BLOCK : CREST_BROKEN;
}

static inline ptrdiff_t crest_send_several(int fd, const crest_piece *pieces, size_t count, int flags) {
    struct iovec vector[CREST_PIECES_A_CALL];
    struct msghdr message = {0};
    size_t n = count < CREST_PIECES_A_CALL ? count : CREST_PIECES_A_CALL;
    size_t i;
    ssize_t sent;
    for (i = 0; i < n; i++) {
        vector[i].iov_base = (void *)pieces[i].data;
        vector[i].iov_len = pieces[i].size;
    }
    message.msg_iov = vector;
    message.msg_iovlen = n;
    do
        sent = sendmsg(fd, &message, flags);
    while (sent < 0 && errno == EINTR);
    return crest_taken(sent);
}

/* Send pieces, in order. Returns the bytes that the kernel took (possibly 0), CREST_WOULD_BLOCK or CREST_BROKEN.
 *
 * If `ends`, Linux puts nothing that is sent later into the same segment of TCP. One piece is sent without a call on the
 * way: that is a tenth of what a delivery takes (benches/guard.py, broadcast). */
__attribute__((always_inline)) static inline ptrdiff_t crest_send(
        int fd, const crest_piece *pieces, size_t count, int ends) {
    int flags = MSG_NOSIGNAL | MSG_DONTWAIT | (ends ? CREST_ENDS : 0);
    ssize_t sent;
    if (count != 1) return crest_send_several(fd, pieces, count, flags);
    do
        sent = send(fd, pieces->data, pieces->size, flags);
    while (sent < 0 && errno == EINTR);
    return crest_taken(sent);
}

/* The same, with no more than the first `most` bytes; at least 1. */
static inline ptrdiff_t crest_send_some(int fd, const crest_piece *pieces, size_t count, size_t most, int ends) {
    crest_piece some[CREST_PIECES_A_CALL];
    size_t n = 0;
    while (n < count && n < CREST_PIECES_A_CALL && most > 0) {
        some[n] = pieces[n];
        if (some[n].size > most) some[n].size = most;
        most -= some[n++].size;
    }
    return crest_send(fd, some, n, ends);
}

/* Receive. Returns the bytes that came, 0 at the end of the stream, CREST_WOULD_BLOCK or CREST_BROKEN. */
static inline ptrdiff_t crest_recv(int fd, char *data, size_t room) {
    ssize_t got;
    do
        got = recv(fd, data, room, MSG_DONTWAIT);
    while (got < 0 && errno == EINTR);
    if (got >= 0) return got;
    return errno == EAGAIN || errno == EWOULDBLOCK ? CREST_WOULD_BLOCK : CREST_BROKEN;
}

/* The same, and leave the bytes where they are. */
static inline ptrdiff_t crest_peek(int fd, char *data, size_t room) {
    ssize_t got;
    do
        got = recv(fd, data, room, MSG_PEEK | MSG_DONTWAIT);
    while (got < 0 && errno == EINTR);
    if (got >= 0) return got;
    return errno == EAGAIN || errno == EWOULDBLOCK ? CREST_WOULD_BLOCK : CREST_BROKEN;
}

/* 1 if something can be read, or a connection accepted, without waiting. */
static inline int crest_is_readable(int fd) {
    struct pollfd asked = {.fd = fd, .events = POLLIN};
    return poll(&asked, 1, 0) == 1;
}

/* Find out from errno why no connection was accepted. CREST_WOULD_BLOCK: there is none. CREST_BROKEN: it is gone
 * already, and the next may be there. CREST_REFUSED, for any other reason: none can be accepted now. Linux also reports
 * network errors that are pending on the new connection. */
static inline int crest_not_accepted(int error) {
    switch (error) {
    case EAGAIN:
#if EWOULDBLOCK != EAGAIN
    case EWOULDBLOCK:
#endif
        return CREST_WOULD_BLOCK;
    case ECONNABORTED:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case EINTR:
    case ENETDOWN:
    case ENETUNREACH:
    case ENOPROTOOPT:
    case EPERM: /* by a rule of the firewall */
    case EPROTO:
#ifdef ENONET
    case ENONET:
#endif
        return CREST_BROKEN;
    default:
        return CREST_REFUSED;
    }
}

typedef union crest_sockaddr {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_storage room;
} crest_sockaddr;

static inline void crest_set_address(crest_address *address, const crest_sockaddr *from) {
    memset(address, 0, sizeof *address);
    if (from->any.sa_family == AF_INET) {
        address->version = 4;
        address->port = ntohs(from->v4.sin_port);
        memcpy(address->bytes, &from->v4.sin_addr, 4);
    } else if (from->any.sa_family == AF_INET6) {
        address->version = 6;
        address->port = ntohs(from->v6.sin6_port);
        memcpy(address->bytes, &from->v6.sin6_addr, 16);
    }
}

/* Accept a connection that waits. Returns its descriptor, which does not block and is closed on exec; or one of the
 * three codes above, with errno. */
static inline int crest_accept(int fd, crest_address *peer) {
    crest_sockaddr from;
    socklen_t size = sizeof from;
    int accepted;
    memset(&from, 0, sizeof from); /* macOS does not fill it in when the peer has gone again */
#ifdef SOCK_CLOEXEC
    accepted = accept4(fd, &from.any, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
#else
    accepted = accept(fd, &from.any, &size);
    if (accepted >= 0) {
        fcntl(accepted, F_SETFD, FD_CLOEXEC);
        fcntl(accepted, F_SETFL, fcntl(accepted, F_GETFL) | O_NONBLOCK);
    }
#endif
    if (accepted < 0) return crest_not_accepted(errno);
    crest_set_address(peer, &from);
    return accepted;
}

/* Write the address without its port to `text`, which has room for CREST_ADDRESS_TEXT; 0 if there is none. */
static inline int crest_address_text(const crest_address *address, char *text) {
    int family = address->version == 4 ? AF_INET : AF_INET6;
    return address->version && inet_ntop(family, address->bytes, text, CREST_ADDRESS_TEXT) != NULL;
}

/* The number of this process: another one in a process that was forked. */
static inline int crest_process(void) {
    return (int)getpid();
}

static inline void crest_shut_down(int fd) {
    shutdown(fd, SHUT_RDWR);
}

static inline int crest_shut_down_writing(int fd) {
    return shutdown(fd, SHUT_WR);
}

static inline void crest_close(int fd) {
    close(fd); /* not repeated after EINTR: the descriptor is gone, and another thread may have the number */
}

#endif
#endif
