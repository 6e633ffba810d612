# One message to many connections; see fanout.pyx.

from libc.stdint cimport uint8_t, uint64_t

from crest.io.outbox cimport Feed, Outbox
from crest.io.pieces cimport crest_piece
from crest.io.turn cimport Block


cdef class Fanout(Feed):
    cdef readonly list members  # Outbox, each at its `slot`
    cdef list blocks            # Block: the log from `start` to `end`, which begins `skipped` bytes into the first
    cdef size_t skipped

    cdef int join(self, Outbox outbox) except -1
    cdef int publish(self, uint8_t opcode, const char* data, size_t size) except -1

    cdef size_t unsent(self, crest_piece* pieces) except 0
    cdef Py_ssize_t send_ready(
        self, Py_ssize_t at, const crest_piece* pieces, size_t count, ptrdiff_t* sent) noexcept nogil
    cdef int push_range(self, Outbox outbox, uint64_t position, uint64_t stop) except -1
    cdef uint64_t fitting(self, uint64_t position, uint64_t size, uint64_t* refused) except? 0
    cdef int clear(self) except -1
