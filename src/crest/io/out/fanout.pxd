# One message to many connections; see fanout.pyx.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from crest.io.loop.turn cimport Block
from crest.io.out.backlog cimport Backlog, Feed
from crest.io.out.crew cimport Crew
from crest.io.out.latest cimport Latest, Value
from crest.io.out.outbox cimport Outbox
from crest.io.syscalls cimport crest_piece


cdef class Fanout(Feed):
    cdef readonly list members  # Outbox, each at its `slot`
    cdef list blocks            # Block: the log, which holds everything from `start` to `end`
    cdef uint64_t base          # position of the first block's first byte
    cdef uint64_t slice         # nanoseconds
    cdef Crew crew              # None: no threads help
    cdef Latest latest          # None: keys mean nothing with this policy
    cdef uint64_t plain_end     # position behind the last message without a key
    # A round: the members before `at` have got the log up to `goal`. `at` is 0: there is no round.
    cdef size_t at
    cdef uint64_t goal
    cdef size_t tried           # the crew has tried the members before this one
    cdef uint8_t interrupted    # the round goes on in the next turn

    cdef Block prepare(self, size_t size, Value value)
    cdef int publish(self, Block block, uint8_t opcode, const char* data, size_t size, Value value) except -1
    cdef Value supersede(self, object key)

    cdef int pull(self, Backlog outbox) except -1
    cdef int remove(self, uint32_t free) except -1
    cdef uint32_t fill(self, uint32_t free, uint32_t slot) except? 0
    cdef int send_all(self) except -1
    cdef bint send_until(self, uint64_t deadline) except -1
    cdef bint serve(self, uint64_t deadline) except -1
    cdef int call_crew(self, const crest_piece* pieces, size_t count, uint64_t deadline) except -1
    cdef int push_rest(self, Outbox outbox, size_t sent) except -1
    cdef size_t unsent(self, crest_piece* pieces) except 0
    cdef size_t send_ready(
        self, const crest_piece* pieces, size_t count, uint64_t deadline, ptrdiff_t* sent) noexcept nogil
    cdef size_t offer_all(self, const crest_piece* pieces, size_t count, uint64_t deadline, ptrdiff_t* sent,
                          uint8_t segment) noexcept nogil
    cdef int skip_keyed(self, Backlog outbox) except -1
    cdef int push_newest(self, Backlog outbox) except -1
    cdef int push_range(self, Backlog outbox, uint64_t position, uint64_t stop) except -1
    cdef uint64_t fitting(self, uint64_t position, uint64_t stop, uint64_t size, uint64_t* refused) except? 0
    cdef int clear(self) except -1
