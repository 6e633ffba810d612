#include "rooms.h"

#include <string.h>

#include "fail.h"

static void *zeros(size_t n, size_t size) {
    void *at = calloc(n ? n : 1, size);
    if (!at) fail("no memory for the rooms");
    return at;
}

static uint32_t room(const struct rooms *rooms, uint32_t connection, uint64_t number) {
    return (uint32_t)((connection + (uint64_t)rooms->offsets[number % rooms->each]) % rooms->count);
}

/* Which senders of the same distance this one is among: those whose numbers are the same, modulo `count`. */
static uint64_t *due(const struct rooms *rooms, uint32_t receiver, uint32_t distance, uint32_t sender) {
    uint32_t alike = (rooms->senders - 1) / rooms->count + 1;
    return rooms->due + ((uint64_t)receiver * rooms->places + rooms->place[distance]) * alike + sender / rooms->count;
}

static uint32_t distance(const struct rooms *rooms, uint32_t receiver, uint32_t sender) {
    return (uint32_t)(((uint64_t)sender % rooms->count + rooms->count - receiver % rooms->count) % rooms->count);
}

/* Triangular numbers, spread over all rooms: below `count`, and so different, or else one room after the other. */
static void choose_offsets(struct rooms *rooms) {
    uint32_t last = rooms->each * (rooms->each - 1) / 2;
    uint32_t spread = last ? (rooms->count - 1) / last : 1;
    for (uint32_t i = 0; i < rooms->each; i++) rooms->offsets[i] = spread ? i * (i + 1) / 2 * spread : i;
}

static void find_shared(struct rooms *rooms) {
    for (uint32_t i = 0; i < rooms->each; i++)
        for (uint32_t k = 0; k < rooms->each; k++) {
            uint32_t ahead = (rooms->offsets[k] + rooms->count - rooms->offsets[i]) % rooms->count;
            if (!rooms->shared[ahead]) rooms->place[ahead] = rooms->places++;
            rooms->shared[ahead] |= 1ull << i;
        }
}

void rooms_init(struct rooms *rooms, uint32_t count, uint32_t each, uint32_t connections, uint32_t senders) {
    *rooms = (struct rooms){.count = count, .each = each, .connections = connections, .senders = senders};
    if (each > count) fail("a connection cannot be in %u of %u rooms", each, count);
    choose_offsets(rooms);
    rooms->members = zeros(count, sizeof *rooms->members);
    for (uint32_t i = 0; i < connections; i++)
        for (uint32_t k = 0; k < each; k++) rooms->members[room(rooms, i, k)]++;

    rooms->shared = zeros(count, sizeof *rooms->shared);
    rooms->place = zeros(count, sizeof *rooms->place);
    find_shared(rooms);
    uint32_t alike = (senders - 1) / count + 1;
    rooms->due = zeros((size_t)connections * rooms->places * alike, sizeof *rooms->due);
    for (uint32_t ahead = 0; ahead < count; ahead++)
        for (uint32_t i = 0; rooms->shared[ahead] && i < connections; i++)
            for (uint32_t k = 0; k < alike; k++)
                *due(rooms, i, ahead, k * count) = (uint64_t)__builtin_ctzll(rooms->shared[ahead]);
}

void rooms_path(const struct rooms *rooms, uint32_t connection, const char *path, char *out, size_t size) {
    size_t length = (size_t)snprintf(out, size, "%s?rooms=", path);
    for (uint32_t i = 0; i < rooms->each && length < size; i++)
        length += (size_t)snprintf(out + length, size - length, i ? ",%u" : "%u", room(rooms, connection, i));
    if (length >= size) fail("the path is too long");
}

uint32_t rooms_audience(const struct rooms *rooms, uint32_t sender, uint64_t number) {
    return rooms->members[room(rooms, sender, number)];
}

uint64_t rooms_deliveries(const struct rooms *rooms, uint32_t sender, uint64_t sent) {
    uint64_t deliveries = 0;
    for (uint32_t i = 0; i < rooms->each; i++)
        deliveries += rooms_audience(rooms, sender, i) * (sent / rooms->each + (i < sent % rooms->each));
    return deliveries;
}

void rooms_take(struct rooms *rooms, uint32_t receiver, uint32_t sender, uint64_t number) {
    unsigned long long shown = number;
    if (sender >= rooms->senders) fail("connection %u: message %llu of %u, which sends none", receiver, shown, sender);
    uint32_t ahead = distance(rooms, receiver, sender);
    uint64_t slots = rooms->shared[ahead];
    if (!(slots >> number % rooms->each & 1))
        fail("connection %u: message %llu of sender %u for room %u, where it is no member", receiver, shown, sender,
             room(rooms, sender, number));
    uint64_t *next = due(rooms, receiver, ahead, sender);
    if (number != *next)
        fail("connection %u: message %llu of sender %u %swhere %llu was due (%s or out of order)", receiver, shown,
             sender, number < *next ? "again " : "", (unsigned long long)*next,
             number < *next ? "duplicated" : "lost");
    do ++*next;
    while (!(slots >> *next % rooms->each & 1));
}
