# Messages that are given to some outboxes, one by one; see handout.pyx.

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from crest.io.loop.turn cimport Block, Pending, Turn
from crest.io.out.backlog cimport Feed
from crest.io.out.circle cimport Circle
from crest.io.out.latest cimport Latest
from crest.io.out.outbox cimport Outbox


cdef class Handout(Pending):
    cdef Turn turn
    cdef uint64_t slice         # nanoseconds
    cdef Block block            # that frames are written to; None: there was none yet
    # Outboxes that have got something in this turn, each a reference; those before `at` have been flushed.
    cdef PyObject** given
    cdef size_t count, room, at
    cdef uint8_t interrupted    # flushing goes on in the next turn

    cdef void forget(self) noexcept
    cdef Block prepare(self, size_t size, size_t outboxes)
    cdef uint64_t deal(
        self, list circles, uint8_t opcode, const char* data, size_t* size, tuple excluded, object key, Feed feed,
        Latest latest) except? 0
    cdef Block keep(self, Outbox outbox, Latest latest, Circle circle, object key, const char* frame, size_t size,
                    Block alone)
    cdef int give(self, Outbox outbox, const char* frame, size_t size) except -1
    cdef int reserve(self, size_t outboxes) except -1
    cdef void add(self, Outbox outbox) noexcept
    cdef bint flush_until(self, uint64_t deadline) except -1
