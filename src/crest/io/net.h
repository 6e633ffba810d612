/* send(2) on many pieces of memory, and what it may say. Knows sockets; no Python, no frames. */
#ifndef CREST_NET_H
#define CREST_NET_H

#include <stddef.h>

/* A run of bytes that waits to be sent. `owner` keeps the memory alive; this file never looks at it. */
typedef struct crest_piece {
    void *owner;
    const char *data;
    size_t size;
} crest_piece;

enum {
    CREST_WOULD_BLOCK = -1, /* the kernel's send buffer is full: not an error */
    CREST_BROKEN = -2,      /* the connection is gone; its reading side will say so too */
};

#ifdef _WIN32

/* There is no send(2) past a proactor's transport. */
#define CREST_DIRECT_SEND 0

static inline ptrdiff_t crest_send(int fd, const crest_piece *pieces, size_t count) {
    (void)fd, (void)pieces, (void)count;
    return CREST_BROKEN;
}

static inline void crest_prefetch(const void *address) {
    (void)address;
}

#else

#define CREST_DIRECT_SEND 1

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#ifndef MSG_NOSIGNAL /* macOS: CPython ignores SIGPIPE at start-up */
#define MSG_NOSIGNAL 0
#endif

enum { CREST_PIECES_A_CALL = 64 };

static inline void crest_prefetch(const void *address) {
    __builtin_prefetch(address);
}

/* Bytes that the kernel took of the pieces, in order (possibly 0), or one of the two codes above. */
static inline ptrdiff_t crest_send(int fd, const crest_piece *pieces, size_t count) {
    ssize_t sent;
    if (count == 1) {
        do
            sent = send(fd, pieces->data, pieces->size, MSG_NOSIGNAL | MSG_DONTWAIT);
        while (sent < 0 && errno == EINTR);
    } else {
        struct iovec vector[CREST_PIECES_A_CALL];
        struct msghdr message;
        size_t n = count < CREST_PIECES_A_CALL ? count : CREST_PIECES_A_CALL;
        for (size_t i = 0; i < n; i++) {
            vector[i].iov_base = (void *)pieces[i].data;
            vector[i].iov_len = pieces[i].size;
        }
        memset(&message, 0, sizeof message);
        message.msg_iov = vector;
        message.msg_iovlen = n;
        do
            sent = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        while (sent < 0 && errno == EINTR);
    }
    if (sent >= 0) return sent;
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS || errno == ENOMEM ? CREST_WOULD_BLOCK : CREST_BROKEN;
}

#endif
#endif
