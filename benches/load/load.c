/* load: puts a WebSocket server under load, checks all that it answers, and prints what it took.
 *
 * Owns the command line, when messages are sent, and what is measured. What messages say is in stream.h, where they go
 * in rooms.h, how the server is checked in connection.h, what it consumes in process.h. One thread, one epoll; usage()
 * lists the modes. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>

#include "connection.h"
#include "fail.h"
#include "flight.h"
#include "latency.h"
#include "process.h"
#include "rooms.h"

enum mode { ECHO, BROADCAST, ROOMS, IDLE, RATE };
enum { EVENTS = 1024, OPENING_AT_ONCE = 64, CONNECTIONS_MAX = 1 << 20 };
static const double WARM_UP_S = 0.3, SETTLE_S = 0.5;

static const char *const MODES[] = {"echo", "bcast", "rooms", "idle", "rate"};

static struct {
    enum mode mode;
    uint32_t connections, rooms, each, senders;
    size_t size;
    uint64_t depth, messages;
    double seconds, stall;
    bool binary;
    pid_t pid;
} options = {.connections = 1, .rooms = 1, .each = 1, .size = 64, .depth = 1, .seconds = 2, .stall = 10};

static struct target target = {.host = "127.0.0.1", .path = "/ws"};
static struct connection *connections;
static struct processes server;
static struct latency latency;
static struct rooms rooms;
static struct flight flight;

static struct {
    bool sending, measuring;
    uint32_t opened, closed; /* connections */
    uint64_t received;       /* messages, over all connections */
    uint64_t handshakes;
    uint64_t heard_at; /* nanoseconds, when the server last sent anything */
} run;

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static uint64_t after(double seconds) {
    return now() + (uint64_t)(seconds * 1e9);
}

/* ---- What follows from what was received ---- */

static void post(struct connection *c, uint64_t n) {
    if (!run.sending) return;
    if (options.messages && n > options.messages - c->sent) n = options.messages - c->sent;
    if (n) connection_post(c, &target, n);
}

static bool to_many(void) {
    return options.mode == BROADCAST || options.mode == ROOMS;
}

static void received_by_one(const struct connection *c) {
    flight_received(&flight, c->sender->id, c->number);
}

static void post_after_landed(void) {
    uint32_t sender;
    uint64_t n;
    while (flight_landed(&flight, &sender, &n)) post(connections + sender, n);
}

static void handle_read(struct connection *c) {
    enum connection_state before = c->state;
    unsigned n = connection_read(c, &target);
    uint64_t time = now();
    run.heard_at = time;
    if (before == OPENING && c->state == OPEN) {
        run.opened++;
        if (options.mode == RATE) {
            run.handshakes++;
            connection_reset(c);
            if (run.sending) connection_open(c, &target);
            return;
        }
    }
    if (before == CLOSING && c->state != CLOSING) run.closed++;
    if (!n) return;
    run.received += n;
    if (options.depth == 1 && run.measuring) latency_add(&latency, time - c->sender->sent_at);
    if (to_many())
        post_after_landed();
    else
        post(c, n);
}

static void pump(double patience) {
    struct epoll_event events[EVENTS];
    int n = epoll_wait(target.epoll, events, EVENTS, (int)(patience * 1e3));
    if (n < 0 && errno != EINTR) fail("epoll_wait: %s", strerror(errno));
    for (int i = 0; i < n; i++) {
        struct connection *c = events[i].data.ptr;
        if (events[i].events & EPOLLOUT) connection_flush(c, &target);
        if (events[i].events & ~EPOLLOUT) handle_read(c);
    }
}

static void pump_for(double seconds) {
    for (uint64_t end = after(seconds), time; (time = now()) < end;) pump((double)(end - time) / 1e9 + 0.001);
}

static bool stalled(void) {
    return now() > run.heard_at + (uint64_t)(options.stall * 1e9);
}

/* ---- Opening and ending ---- */

static void open_connections(struct connection *first, uint32_t n) {
    uint32_t before = run.opened;
    run.heard_at = now();
    for (uint32_t started = 0; run.opened - before < n;) {
        while (started < n && started - (run.opened - before) < OPENING_AT_ONCE)
            connection_open(first + started++, &target);
        pump(options.stall);
        if (stalled())
            fail("%u of %u handshakes were not answered in %g s", n - (run.opened - before), n, options.stall);
    }
}

static uint64_t expected(void) {
    uint64_t due = 0;
    for (uint32_t i = 0; i < options.connections; i++)
        due += to_many() ? rooms_deliveries(&rooms, i, connections[i].sent) : connections[i].sent;
    return due;
}

static void fail_if_stalled(void) {
    if (stalled())
        fail("lost: %llu of %llu messages did not arrive in %g s", (unsigned long long)(expected() - run.received),
             (unsigned long long)expected(), options.stall);
}

static void receive_the_rest(void) {
    run.heard_at = now();
    while (run.received < expected()) {
        pump(options.stall);
        fail_if_stalled();
    }
}

/* The closing handshake shows that nothing is behind the last message, such as the same once more. */
static void close_connections(void) {
    run.heard_at = now();
    for (uint32_t i = 0; i < options.connections; i++) connection_close(connections + i, &target);
    while (run.closed < options.connections) {
        pump(options.stall);
        if (stalled())
            fail("%u of %u Close frames were not answered in %g s", options.connections - run.closed,
                 options.connections, options.stall);
    }
    for (uint32_t i = 0; i < options.connections; i++) connection_reset(connections + i);
}

/* ---- Measuring ---- */

struct reading {
    uint64_t time, cpu, received, handshakes;
};

static struct reading read_all(void) {
    struct reading reading = {.received = run.received, .handshakes = run.handshakes};
    if (server.count) reading.cpu = processes_cpu(&server);
    reading.time = now();
    return reading;
}

static void print_server(struct reading begin, struct reading end, uint64_t units) {
    if (!server.count) return;
    double cpu = (double)(end.cpu - begin.cpu);
    printf(", \"server_cpu_us\": %.4f, \"server_cpu_share\": %.3f, \"server_rss_bytes\": %llu",
           units ? cpu / 1e3 / (double)units : 0, cpu / (double)(end.time - begin.time),
           (unsigned long long)processes_resident(&server));
}

static void print_messages(struct reading begin, struct reading end) {
    uint64_t messages = end.received - begin.received;
    double seconds = (double)(end.time - begin.time) / 1e9;
    printf("{\"mode\": \"%s\", \"connections\": %u, ", MODES[options.mode], options.connections);
    if (options.mode == ROOMS)
        printf("\"rooms\": %u, \"each\": %u, \"senders\": %u, ", options.rooms, options.each, options.senders);
    printf("\"size\": %zu, \"depth\": %llu, \"binary\": %s, \"seconds\": %.3f, "
           "\"messages\": %llu, \"messages_per_second\": %.1f, \"megabytes_per_second\": %.1f",
           options.size, (unsigned long long)options.depth,
           options.binary ? "true" : "false", seconds, (unsigned long long)messages, (double)messages / seconds,
           (double)messages * (double)options.size / seconds / 1e6);
    if (latency.samples)
        printf(", \"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f",
               (double)latency_percentile(&latency, 0.5) / 1e3, (double)latency_percentile(&latency, 0.99) / 1e3,
               (double)latency_percentile(&latency, 0.999) / 1e3);
    print_server(begin, end, messages);
    printf("}\n");
}

/* Only once a connection has been served: a server may listen before its workers have started. */
static void find_server(void) {
    if (options.pid) processes_find(&server, options.pid);
}

static void run_messages(void) {
    open_connections(connections, options.connections);
    find_server();
    struct reading begin, end;
    run.sending = true;
    run.measuring = options.messages != 0;
    begin = read_all();
    uint32_t senders = to_many() ? rooms.senders : options.connections;
    for (uint32_t i = 0; i < senders; i++) post(connections + i, options.depth);
    if (options.messages) {
        receive_the_rest();
        end = read_all();
    } else {
        uint64_t measured_from = after(WARM_UP_S), until = measured_from + (uint64_t)(options.seconds * 1e9), time;
        run.heard_at = now();
        while ((time = now()) < until) {
            if (!run.measuring && time >= measured_from) {
                run.measuring = true;
                begin = read_all();
            }
            pump(0.05);
            fail_if_stalled();
        }
        end = read_all();
        run.sending = run.measuring = false;
        receive_the_rest();
    }
    if (end.received == begin.received) fail("no message arrived while measuring");
    close_connections();
    print_messages(begin, end);
}

static void run_idle(void) {
    /* What the server loads on its first connection does not belong to each of the others. */
    open_connections(connections + options.connections, 1);
    find_server();
    pump_for(SETTLE_S);
    uint64_t resident = server.count ? processes_resident(&server) : 0, started = now();
    open_connections(connections, options.connections);
    double opening = (double)(now() - started) / 1e9;
    pump_for(SETTLE_S);
    uint64_t resident_open = server.count ? processes_resident(&server) : 0;
    struct reading begin = read_all();
    pump_for(options.seconds);
    struct reading end = read_all();

    run.sending = true;
    for (uint32_t i = 0; i < options.connections; i++) post(connections + i, 1);
    run.sending = false;
    receive_the_rest();
    for (uint32_t i = 0; i <= options.connections; i++) connection_reset(connections + i);
    printf("{\"mode\": \"idle\", \"connections\": %u, \"seconds\": %.3f, \"opening_seconds\": %.3f",
           options.connections, (double)(end.time - begin.time) / 1e9, opening);
    if (server.count)
        printf(", \"bytes_per_connection\": %.1f, \"idle_cpu_share\": %.5f, \"server_rss_bytes\": %llu",
               ((double)resident_open - (double)resident) / options.connections,
               (double)(end.cpu - begin.cpu) / (double)(end.time - begin.time), (unsigned long long)resident_open);
    printf("}\n");
}

static void pump_handshakes(void) {
    pump(0.05);
    if (stalled()) fail("no handshake was answered in %g s", options.stall);
}

static void run_rate(void) {
    run.sending = true;
    run.heard_at = now();
    for (uint32_t i = 0; i < options.connections; i++) connection_open(connections + i, &target);
    for (uint64_t warm = after(WARM_UP_S); now() < warm || !run.handshakes;) pump_handshakes();
    find_server();
    struct reading begin = read_all();
    uint64_t until = after(options.seconds);
    while (now() < until || run.handshakes == begin.handshakes) pump_handshakes();
    struct reading end = read_all();
    uint64_t handshakes = end.handshakes - begin.handshakes;
    double seconds = (double)(end.time - begin.time) / 1e9;
    for (uint32_t i = 0; i < options.connections; i++) connection_reset(connections + i);
    printf("{\"mode\": \"rate\", \"connections\": %u, \"seconds\": %.3f, \"handshakes\": %llu, "
           "\"handshakes_per_second\": %.1f",
           options.connections, seconds, (unsigned long long)handshakes, (double)handshakes / seconds);
    print_server(begin, end, handshakes);
    printf("}\n");
}

/* ---- The command line ---- */

static _Noreturn void usage(void) {
    fputs("usage: load MODE [OPTION ...] PORT [PATH]\n"
          "  echo   each connection keeps DEPTH messages in flight and must get each back\n"
          "  bcast  one connection keeps DEPTH messages in flight, every connection must get each\n"
          "  rooms  each sender keeps DEPTH messages in flight, to one of its rooms after the other, and every member\n"
          "         must get each; the request names a connection's rooms: PATH?rooms=17,3\n"
          "  idle   opens connections and holds them; then each must echo one message\n"
          "  rate   opens and resets connections, this many at a time\n"
          "  --connections N  --size BYTES  --depth N  --binary\n"
          "  --rooms N        all of them (1)\n"
          "  --each N         of each connection (1)\n"
          "  --senders N      the first connections (as many as there are rooms)\n"
          "  --seconds S      measured, after 0.3 s of warm-up (idle: held)\n"
          "  --messages N     for each sender, instead of --seconds; all are measured\n"
          "  --stall S        seconds in which the server must send something that is due (10)\n"
          "  --host ADDRESS   IPv4 (127.0.0.1)\n"
          "  --pid PID        of the server, to measure its CPU time and memory\n"
          "One JSON object on stdout; status 1 and a text on stderr on the first thing that is wrong.\n",
          stderr);
    exit(2);
}

static double number(const char *text, double least, double most) {
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= least && value <= most)) usage();
    return value;
}

static void parse_options(int argc, char **argv) {
    static const struct option names[] = {
        {"connections", required_argument, 0, 'c'}, {"size", required_argument, 0, 's'},
        {"depth", required_argument, 0, 'd'},       {"binary", no_argument, 0, 'b'},
        {"seconds", required_argument, 0, 't'},     {"messages", required_argument, 0, 'n'},
        {"stall", required_argument, 0, 'T'},       {"pid", required_argument, 0, 'p'},
        {"host", required_argument, 0, 'h'},        {"rooms", required_argument, 0, 'R'},
        {"each", required_argument, 0, 'e'},        {"senders", required_argument, 0, 'S'},
        {0, 0, 0, 0},
    };
    for (int option; (option = getopt_long(argc, argv, "", names, NULL)) != -1;) switch (option) {
        case 'c': options.connections = (uint32_t)number(optarg, 1, CONNECTIONS_MAX); break;
        case 's': options.size = (size_t)number(optarg, 0, 1 << 30); break;
        case 'd': options.depth = (uint64_t)number(optarg, 1, 1 << 20); break;
        case 'b': options.binary = true; break;
        case 't': options.seconds = number(optarg, 0, 3600); break;
        case 'n': options.messages = (uint64_t)number(optarg, 1, 1e12); break;
        case 'T': options.stall = number(optarg, 0.001, 3600); break;
        case 'h': target.host = optarg; break;
        case 'R': options.rooms = (uint32_t)number(optarg, 1, CONNECTIONS_MAX); break;
        case 'e': options.each = (uint32_t)number(optarg, 1, ROOMS_EACH_MAX); break;
        case 'S': options.senders = (uint32_t)number(optarg, 1, CONNECTIONS_MAX); break;
        case 'p': options.pid = (pid_t)number(optarg, 1, 1 << 30); break;
        default: usage();
        }
    int left = argc - optind;
    if (left < 2 || left > 3) usage();
    const char *mode = argv[optind++];
    size_t known = 0, count = sizeof MODES / sizeof *MODES;
    while (known < count && strcmp(mode, MODES[known])) known++;
    if (known == count) usage();
    options.mode = (enum mode)known;
    target.port = (int)number(argv[optind++], 1, 65535);
    if (optind < argc) target.path = argv[optind++];
    if (target.path[0] != '/') usage();
}

/* A broadcast is to one room, whose one sender need not be named. */
static void prepare_rooms(void) {
    if (options.mode == BROADCAST) options.rooms = options.each = options.senders = 1;
    if (options.mode == ROOMS) {
        if (options.size < NAME) fail("rooms need messages of %d bytes or more", NAME);
        target.rooms = &rooms;
    }
    if (!options.senders) options.senders = options.rooms;
    if (options.senders > options.connections) options.senders = options.connections;
    rooms_init(&rooms, options.rooms, options.each, options.connections, options.senders);
    flight_init(&flight, &rooms, options.depth);
    target.received = received_by_one;
}

int main(int argc, char **argv) {
    parse_options(argc, argv);
    target.address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)target.port)};
    if (inet_pton(AF_INET, target.host, &target.address.sin_addr) != 1) fail("%s is no IPv4 address", target.host);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (options.connections + 16 > files.rlim_cur)
        fail("%u connections need more open files than %llu", options.connections, (unsigned long long)files.rlim_cur);

    struct stream stream;
    stream_init(&stream, options.size);
    target.stream = &stream;
    target.opcode = options.binary ? OPCODE_BINARY : OPCODE_TEXT;
    target.epoll = epoll_create1(EPOLL_CLOEXEC);
    connections = calloc(options.connections + 1, sizeof *connections);
    if (!connections) fail("no memory for %u connections", options.connections);
    target.connections = connections;
    if (to_many()) prepare_rooms();
    for (uint32_t i = 0; i <= options.connections; i++) {
        connections[i].id = i;
        connections[i].sender = options.mode == BROADCAST ? connections : connections + i;
    }
    switch (options.mode) {
    case ECHO:
    case BROADCAST:
    case ROOMS: run_messages(); break;
    case IDLE: run_idle(); break;
    case RATE: run_rate(); break;
    }
    return 0;
}
