# Sending the log to one member of a fan-out: the main path of a broadcast, for the loop and for helpers (crew.pyx).

from libc.stdint cimport uint64_t

from crest.io.out.outbox cimport Outbox, is_ready
from crest.io.syscalls cimport crest_piece, crest_send

# The reason for which nothing was sent to a member that has yet to see the log up to `goal`.
cdef enum:
    NOT_READY = -3      # it has output of its own


cdef inline ptrdiff_t offer(
        Outbox outbox, const crest_piece* pieces, size_t count, uint64_t start, uint64_t goal,
        bint ends) noexcept nogil:
    """Send the log from `start` to `goal`, which `pieces` hold, to an outbox that has not seen it. Returns what
    `crest_send` returns, above all the bytes that were taken, or NOT_READY. `ends`: see there."""
    cdef ptrdiff_t sent
    if outbox.seen > start or not is_ready(outbox):
        return NOT_READY
    sent = crest_send(outbox.fd, pieces, count, ends)
    if sent == <ptrdiff_t>(goal - start):
        outbox.seen = goal
    return sent
