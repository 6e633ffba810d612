# Threads that send a broadcast; see crew.pyx.

from libc.stdint cimport uint64_t

from crest.io.outbox cimport Outbox, is_ready
from crest.io.pieces cimport crest_piece
from crest.io.sender cimport crest_send

cdef extern from "crew.h" nogil:
    ctypedef struct crest_crew:
        pass
    const int CREST_MOST_THREADS

# The reason for which nothing was sent to a member that has yet to see the log up to `goal`.
cdef enum:
    NOT_READY = -3      # it has output of its own

cdef struct Part:
    size_t slot         # of a member that did not take everything
    size_t sent         # bytes that it took


cdef class Crew:
    cdef crest_crew* crew       # NULL: not started yet, or the system has no room for one
    cdef int helpers
    cdef void stop(self) noexcept
    cdef bint is_there(self) noexcept
    cdef size_t serve(
        self, list members, size_t* at, const crest_piece* pieces, size_t count, uint64_t start, uint64_t goal,
        uint64_t deadline, Part* parts) except? 0


cdef inline ptrdiff_t offer(
        Outbox outbox, const crest_piece* pieces, size_t count, uint64_t start, uint64_t goal) noexcept nogil:
    """Send the log from `start` to `goal`, which `pieces` hold, to an outbox that has not seen it. Returns what
    `crest_send` returns, above all the bytes that were taken, or NOT_READY."""
    cdef ptrdiff_t sent
    if outbox.seen > start or not is_ready(outbox):
        return NOT_READY
    sent = crest_send(outbox.fd, pieces, count)
    if sent == <ptrdiff_t>(goal - start):
        outbox.seen = goal
    return sent
