#include "flight.h"

#include "fail.h"

void flight_init(struct flight *flight, const struct rooms *rooms, uint64_t depth) {
    flight->rooms = rooms;
    flight->depth = depth;
    flight->receivers = calloc(rooms->senders * depth, sizeof *flight->receivers);
    flight->undelivered = calloc(rooms->senders, sizeof *flight->undelivered);
    flight->landed = calloc(rooms->senders, sizeof *flight->landed);
    if (!flight->receivers || !flight->undelivered || !flight->landed) fail("no memory for messages in flight");
}

static uint32_t *receivers(const struct flight *flight, uint32_t sender, uint64_t number) {
    return flight->receivers + sender * flight->depth + number % flight->depth;
}

static bool complete(const struct flight *flight, uint32_t sender, uint64_t number) {
    return *receivers(flight, sender, number) == rooms_audience(flight->rooms, sender, number);
}

void flight_received(struct flight *flight, uint32_t sender, uint64_t number) {
    ++*receivers(flight, sender, number);
    if (number == flight->undelivered[sender] && complete(flight, sender, number))
        flight->landed[flight->landed_count++] = sender;
}

bool flight_landed(struct flight *flight, uint32_t *sender, uint64_t *messages) {
    if (!flight->landed_count) return false;
    *sender = flight->landed[--flight->landed_count];
    uint64_t *first = flight->undelivered + *sender;
    for (*messages = 0; complete(flight, *sender, *first); ++*messages) *receivers(flight, *sender, (*first)++) = 0;
    return true;
}
