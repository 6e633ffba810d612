/* Owns which messages are in flight: a message is until all that must receive it have. */
#ifndef LOAD_FLIGHT_H
#define LOAD_FLIGHT_H

#include <stdbool.h>
#include <stdint.h>

#include "rooms.h"

struct flight {
    const struct rooms *rooms;
    uint64_t depth;
    uint32_t *receivers;   /* for each sender: how many have received message n, at n % depth */
    uint64_t *undelivered; /* for each sender: its first message that not all have received */
    uint32_t *landed;      /* senders whose first one all have received meanwhile */
    uint32_t landed_count;
};

void flight_init(struct flight *flight, const struct rooms *rooms, uint64_t depth);

/* Counts that one connection has received this message. */
void flight_received(struct flight *flight, uint32_t sender, uint64_t number);

/* Takes a sender and the number of its messages, of `sent`, that are no longer in flight; false if there is none. */
bool flight_landed(struct flight *flight, uint32_t *sender, uint64_t *messages);

#endif
