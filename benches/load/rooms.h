/* Owns which connection is in which rooms, which message goes to which of them, and what is due to whom.
 *
 * Rooms are numbers below `count`, and every connection is in `each` of them: connection i in room i + offset, modulo
 * `count`, for each offset. So all rooms have as many members, if `count` divides the connections. Two connections that
 * share a room share few others, because offsets are ever farther apart. Message n of a sender goes to its room number
 * n % each. A broadcast has one room. Knows no sockets. */
#ifndef LOAD_ROOMS_H
#define LOAD_ROOMS_H

#include <stddef.h>
#include <stdint.h>

enum { ROOMS_EACH_MAX = 64 };

struct rooms {
    uint32_t count, each, connections, senders;
    uint32_t offsets[ROOMS_EACH_MAX];
    uint32_t *members; /* of each room: how many */
    /* By how far a sender's number is ahead of a receiver's, modulo `count`: bit n % each is set where the receiver is
     * in the room of message n; and the place in `due`, of `places`. */
    uint64_t *shared;
    uint32_t *place, places;
    uint64_t *due; /* number of the next message, for each receiver, place, and sender of that place */
};

/* The first `senders` connections are those that send. */
void rooms_init(struct rooms *rooms, uint32_t count, uint32_t each, uint32_t connections, uint32_t senders);

/* Writes a path that names a connection's rooms: PATH?rooms=17,3. */
void rooms_path(const struct rooms *rooms, uint32_t connection, const char *path, char *out, size_t size);

/* How many connections receive message `number` of `sender`. */
uint32_t rooms_audience(const struct rooms *rooms, uint32_t sender, uint64_t number);

/* How often the first `sent` messages of `sender` are received, all together. */
uint64_t rooms_deliveries(const struct rooms *rooms, uint32_t sender, uint64_t sent);

/* Ends the run unless message `number` is the next that `receiver` must get of `sender`. */
void rooms_take(struct rooms *rooms, uint32_t receiver, uint32_t sender, uint64_t number);

#endif
