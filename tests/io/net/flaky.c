/* A kernel that fails when it is told to, for LD_PRELOAD.
 *
 * `flaky("send", 7, ENOBUFS, 2)` makes the next two send(2) on descriptor 7 fail; -1 stands for any descriptor. An error
 * of 0 makes them take or give one byte only.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { RULES = 16 };

static struct {
    char call[16];
    int fd, error, times;
} rules[RULES];

/* Returns -1 when there are too many rules. */
int flaky(const char *call, int fd, int error, int times) {
    for (int i = 0; i < RULES; i++) {
        if (rules[i].times) continue;
        strncpy(rules[i].call, call, sizeof rules[i].call - 1);
        rules[i].fd = fd, rules[i].error = error, rules[i].times = times;
        return 0;
    }
    return -1;
}

/* How often this is still to happen, over all rules. */
int flaky_left(void) {
    int left = 0;
    for (int i = 0; i < RULES; i++) left += rules[i].times;
    return left;
}

/* -1 with errno if the call is to fail; 1 if it is to be short; else 0. */
static int due(const char *call, int fd) {
    for (int i = 0; i < RULES; i++) {
        if (!rules[i].times || strcmp(rules[i].call, call) || (rules[i].fd != -1 && rules[i].fd != fd)) continue;
        rules[i].times--;
        errno = rules[i].error;
        return rules[i].error ? -1 : 1;
    }
    return 0;
}

ssize_t send(int fd, const void *data, size_t size, int flags) {
    int what = due("send", fd);
    return what < 0 ? -1 : syscall(SYS_sendto, fd, data, what ? 1 : size, flags, NULL, 0);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    return due("sendmsg", fd) < 0 ? -1 : syscall(SYS_sendmsg, fd, message, flags);
}

ssize_t recv(int fd, void *data, size_t size, int flags) {
    int what = due("recv", fd);
    return what < 0 ? -1 : syscall(SYS_recvfrom, fd, data, what ? 1 : size, flags, NULL, NULL);
}

int accept4(int fd, struct sockaddr *address, socklen_t *size, int flags) {
    return due("accept4", fd) < 0 ? -1 : (int)syscall(SYS_accept4, fd, address, size, flags);
}

int shutdown(int fd, int how) {
    return due("shutdown", fd) < 0 ? -1 : (int)syscall(SYS_shutdown, fd, how);
}

int epoll_ctl(int poll, int operation, int fd, struct epoll_event *event) {
    const char *call = operation == EPOLL_CTL_ADD ? "epoll_add" : operation == EPOLL_CTL_DEL ? "epoll_del" : "epoll_mod";
    return due(call, fd) < 0 ? -1 : (int)syscall(SYS_epoll_ctl, poll, operation, fd, event);
}

int epoll_wait(int poll, struct epoll_event *events, int most, int timeout) {
    return due("epoll_wait", poll) < 0 ? -1 : (int)syscall(SYS_epoll_pwait, poll, events, most, timeout, NULL, 8);
}
