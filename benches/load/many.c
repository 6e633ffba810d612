/* many: holds connections, and says when each of them got what was sent to all.
 *
 * One of several such processes. Owns the command line and the times of arrival; what comes is checked by connection.h.
 * Commands are lines on stdin, answers one JSON object each on stdout; the end of stdin ends it. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "connection.h"
#include "fail.h"

/* Of an address with many ports in use, the kernel takes long to find a free one. */
enum { EVENTS = 1024, OPENING_AT_ONCE = 64, SIZE = 64, SERVICE_RESTART = 1012, SOURCES = 4 };

static struct target target = {.host = "127.0.0.1", .path = "/ws", .opcode = OPCODE_TEXT};
static struct connection *connections;
static struct connection sender = {.sent = UINT64_MAX}; /* the first connection of whichever process sends */

static struct {
    uint32_t connections, open, opened; /* of those that are there, and ever */
    uint32_t source;                    /* the first address of the clients' own; 0: the kernel chooses */
    uint64_t *arrivals, sent_at;        /* nanoseconds, of the last message */
    uint32_t arrived;
    bool ends;
} run;

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void open_one(struct connection *c) {
    if (run.source) target.source = htonl(run.source + (c->id % SOURCES << 8));
    connection_open(c, &target);
}

static void print_arrivals(void) {
    printf("{\"sent\": %" PRIu64 ", \"arrivals\": [", run.sent_at);
    for (uint32_t i = 0; i < run.arrived; i++) printf(i ? ", %" PRIu64 : "%" PRIu64, run.arrivals[i]);
    printf("]}\n");
    run.arrived = 0;
    run.sent_at = 0;
}

static void command(void) {
    char line[64];
    ssize_t n = read(STDIN_FILENO, line, sizeof line - 1);
    if (n <= 0) {
        run.ends = true;
        return;
    }
    line[n] = 0;
    if (!strcmp(line, "send\n")) {
        run.sent_at = now();
        connection_post(connections, &target, 1);
    } else if (!strcmp(line, "count\n")) {
        printf("{\"open\": %u, \"opened\": %u}\n", run.open, run.opened);
    } else {
        fail("there is no command %s", line);
    }
}

static void serve(struct connection *c) {
    enum connection_state before = c->state;
    unsigned n = connection_read(c, &target);
    uint64_t time = now();
    if (before == OPENING && c->state == OPEN) {
        run.open++;
        run.opened++;
    }
    if (before == OPEN && c->state == CLOSED) run.open--;
    if (before == CLOSED && c->state == UNCONNECTED) open_one(c);
    for (; n; n--) {
        if (run.arrived == run.connections) fail("connection %u: a message more than was sent", c->id);
        run.arrivals[run.arrived++] = time;
        if (run.arrived == run.connections) print_arrivals();
    }
}

static void pump(void) {
    struct epoll_event events[EVENTS];
    int n = epoll_wait(target.epoll, events, EVENTS, -1);
    if (n < 0 && errno != EINTR) fail("epoll_wait: %s", strerror(errno));
    for (int i = 0; i < n; i++) {
        struct connection *c = events[i].data.ptr;
        if (!c) {
            command();
            continue;
        }
        if (events[i].events & EPOLLOUT) connection_flush(c, &target);
        if (events[i].events & ~EPOLLOUT) serve(c);
    }
}

static _Noreturn void usage(void) {
    fputs("usage: many [--connections N] [--source ADDRESS] [--host ADDRESS] PORT\n"
          "  Opens so many connections, and says when all are open. Their addresses are ADDRESS and three more, 256\n"
          "  behind each other. Then it reads lines:\n"
          "  send   the first connection sends a message, which the server must send to all connections of all\n"
          "         processes. When all of this one have it, it says when that was sent (0: not here), and when each came\n"
          "  count  how many are open, and how many were opened since the beginning\n"
          "  A connection that is closed with 1012 (service restart) is opened anew. Times are nanoseconds of the\n"
          "  monotonic clock.\n",
          stderr);
    exit(2);
}

int main(int argc, char **argv) {
    static const struct option names[] = {
        {"connections", required_argument, 0, 'c'}, {"source", required_argument, 0, 's'},
        {"host", required_argument, 0, 'h'}, {0, 0, 0, 0},
    };
    run.connections = 1;
    struct in_addr source = {0};
    for (int option; (option = getopt_long(argc, argv, "", names, NULL)) != -1;) switch (option) {
        case 'c': run.connections = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 's':
            if (inet_pton(AF_INET, optarg, &source) != 1) usage();
            break;
        case 'h': target.host = optarg; break;
        default: usage();
        }
    if (optind + 1 != argc || !run.connections) usage();
    target.port = atoi(argv[optind]);
    run.source = ntohl(source.s_addr);
    target.awaited_code = SERVICE_RESTART;
    target.address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)target.port)};
    if (inet_pton(AF_INET, target.host, &target.address.sin_addr) != 1) usage();
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    setvbuf(stdout, NULL, _IOLBF, 0);

    struct stream stream;
    stream_init(&stream, SIZE);
    target.stream = &stream;
    target.epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(target.epoll, EPOLL_CTL_ADD, STDIN_FILENO, &event)) fail("epoll_ctl: %s", strerror(errno));
    connections = calloc(run.connections, sizeof *connections);
    run.arrivals = calloc(run.connections, sizeof *run.arrivals);
    if (!connections || !run.arrivals) fail("no memory for %u connections", run.connections);

    for (uint32_t started = 0; run.open < run.connections && !run.ends;) {
        while (started < run.connections && started - run.open < OPENING_AT_ONCE) {
            connections[started].id = started;
            connections[started].sender = &sender;
            open_one(connections + started++);
        }
        pump();
    }
    printf("{\"open\": %u, \"opened\": %u}\n", run.open, run.opened);
    while (!run.ends) pump();
    for (uint32_t i = 0; i < run.connections; i++) connection_reset(connections + i);
    return 0;
}
