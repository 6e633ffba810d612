/* Readiness of sockets: epoll on Linux, kqueue on macOS and the BSDs. Knows file descriptors; no Python, no protocol.
 *
 * All of it is level-triggered: what was not read or written now is reported again. A hang-up or an error makes a
 * descriptor readable and writable, so that the next recv(2) or send(2) says what happened. A descriptor that is not to
 * be read can be watched for the peer's end alone. The end is reported even while unread bytes stand before it.
 */
#ifndef CREST_POLL_H
#define CREST_POLL_H

#include <stddef.h>
#include <stdint.h>

enum {
    CREST_READABLE = 1,
    CREST_WRITABLE = 2,
    CREST_FINISHED = 4, /* the peer has closed its half; bytes before that may be unread */
    CREST_GONE = 8,     /* the connection is gone: reset, or both halves are closed */
    CREST_ANYTHING = CREST_READABLE | CREST_WRITABLE | CREST_FINISHED | CREST_GONE,
};

typedef struct {
    void *token; /* as it was given to crest_poll_change; NULL: the poller has struck out the event */
    int ready;   /* those of the flags above that apply, watched or not */
} crest_event;

enum { CREST_EVENTS_A_CALL = 256 };

#if defined(__linux__)

#define CREST_POLL 1

#include <errno.h>
#include <sys/epoll.h>

static inline int crest_poll_open(void) {
    return epoll_create1(EPOLL_CLOEXEC);
}

/* Watch a descriptor for other events than before. 0: for none; then no hang-up is reported either. For any other value
 * epoll also tells of a connection that is gone. Returns 0, or -1 with errno: the kernel has no memory for it. To watch
 * for less than before always succeeds. */
static inline int crest_poll_change(int poll, int fd, int before, int after, void *token) {
    struct epoll_event event = {0};
    event.events = (after & CREST_READABLE ? EPOLLIN : 0u) | (after & CREST_WRITABLE ? EPOLLOUT : 0u) |
                   (after & CREST_FINISHED ? EPOLLRDHUP : 0u);
    event.data.ptr = token;
    int failed = epoll_ctl(poll, !before ? EPOLL_CTL_ADD : !after ? EPOLL_CTL_DEL : EPOLL_CTL_MOD, fd, &event);
    return after & ~before ? failed : 0;
}

/* Find what is ready, and wait for that so many milliseconds at most; -1: for any time. Returns the number of events, at
 * most CREST_EVENTS_A_CALL, or -1 with errno. */
static inline int crest_poll_ready(int poll, crest_event *events, int milliseconds) {
    struct epoll_event found[CREST_EVENTS_A_CALL];
    int n;
    do
        n = epoll_wait(poll, found, CREST_EVENTS_A_CALL, milliseconds);
    while (n < 0 && errno == EINTR);
    for (int i = 0; i < n; i++) {
        uint32_t flags = found[i].events;
        int broken = flags & (EPOLLHUP | EPOLLERR) ? CREST_ANYTHING : 0;
        events[i].token = found[i].data.ptr;
        events[i].ready = broken | (flags & EPOLLIN ? CREST_READABLE : 0) | (flags & EPOLLOUT ? CREST_WRITABLE : 0) |
                          (flags & EPOLLRDHUP ? CREST_FINISHED : 0);
    }
    return n;
}

#elif defined(__APPLE__) || defined(__FreeBSD__) || defined(__NetBSD__) || defined(__OpenBSD__) || \
    defined(__DragonFly__)

#define CREST_POLL 1

#include <errno.h>
#include <fcntl.h>
#include <sys/types.h>
#include <sys/event.h>
#include <sys/time.h>

static inline int crest_poll_open(void) {
    int poll = kqueue();
    if (poll >= 0) fcntl(poll, F_SETFD, FD_CLOEXEC);
    return poll;
}

/* Change one filter. Readable and writable are two filters in a kqueue, and each is changed by a call of its own:
 * within one call the kernel stops at the first change that fails. A filter that is to go may be gone already. */
static inline int crest_poll_filter(int poll, int fd, int filter, int flags, void *token) {
    struct kevent change = {0};
    change.ident = (uintptr_t)fd;
    change.filter = (__typeof__(change.filter))filter; /* these two differ in their types among the BSDs */
    change.flags = (__typeof__(change.flags))flags;
    change.udata = (__typeof__(change.udata))token;
    return kevent(poll, &change, 1, NULL, 0, NULL) < 0 && flags & EV_ADD ? -1 : 0;
}

/* Find the flags with which EVFILT_READ is added for these events; 0: it is not. If only the peer's end is watched for,
 * EV_CLEAR has the filter report once each time that something comes. Most of those reports are of data, and not
 * watched for. The end brings another one. */
static inline int crest_poll_reading(int events) {
    if (events & CREST_READABLE) return EV_ADD;
    return events & (CREST_FINISHED | CREST_GONE) ? EV_ADD | EV_CLEAR : 0;
}

static inline int crest_poll_change(int poll, int fd, int before, int after, void *token) {
    int was = crest_poll_reading(before), reading = crest_poll_reading(after);
    if (was != reading) { /* to add a filter again would not change its EV_CLEAR */
        if (was) crest_poll_filter(poll, fd, EVFILT_READ, EV_DELETE, token);
        if (reading && crest_poll_filter(poll, fd, EVFILT_READ, reading, token) < 0) return -1;
    }
    if ((before ^ after) & CREST_WRITABLE &&
        crest_poll_filter(poll, fd, EVFILT_WRITE, after & CREST_WRITABLE ? EV_ADD : EV_DELETE, token) < 0)
        return -1;
    return 0;
}

static inline int crest_poll_ready(int poll, crest_event *events, int milliseconds) {
    struct kevent found[CREST_EVENTS_A_CALL];
    const struct timespec most = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
    int n, at = 0;
    do
        n = kevent(poll, NULL, 0, found, CREST_EVENTS_A_CALL, milliseconds < 0 ? NULL : &most);
    while (n < 0 && errno == EINTR);
    for (int ready = CREST_READABLE; ready <= CREST_WRITABLE; ready++) /* a socket that is both is read first */
        for (int i = 0; i < n; i++)
            if ((found[i].filter == EVFILT_READ) == (ready == CREST_READABLE)) {
                int ended = ready == CREST_READABLE && found[i].flags & EV_EOF;
                int broken = ended && found[i].fflags; /* an error of the socket's */
                events[at].token = (void *)found[i].udata;
                events[at++].ready = ready | (ended ? CREST_FINISHED : 0) | (broken ? CREST_GONE : 0);
            }
    return n;
}

#else

/* Windows: its sockets are served by the event loop's own transports. */
#define CREST_POLL 0

static inline int crest_poll_open(void) {
    return -1;
}

static inline int crest_poll_change(int poll, int fd, int before, int after, void *token) {
    (void)poll, (void)fd, (void)before, (void)after, (void)token;
    return -1;
}

static inline int crest_poll_ready(int poll, crest_event *events, int milliseconds) {
    (void)poll, (void)events, (void)milliseconds;
    return -1;
}

#endif
#endif
