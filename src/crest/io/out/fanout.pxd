# One message to many connections; see fanout.pyx.

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from crest.io.loop.turn cimport Block
from crest.io.out.circle cimport Circle, Circles
from crest.io.out.crew cimport Crew
from crest.io.out.handout cimport Handout
from crest.io.out.latest cimport Value
from crest.io.out.outbox cimport Outbox
from crest.io.out.supply cimport Supply
from crest.io.syscalls cimport crest_piece


cdef class Fanout(Supply):
    cdef readonly list members  # Outbox, each at its `slot`
    cdef dict numbers           # of the members: each by its own; None: no member was asked for yet
    cdef readonly Circles circles
    cdef Handout handout
    cdef uint64_t slice         # nanoseconds
    cdef Crew crew              # None: no threads help
    # A round: of those that the log is for, the ones before `at` have got it up to `goal`. `at` is 0: there is none.
    cdef size_t at
    cdef uint64_t goal
    cdef size_t tried           # the crew has tried the ones before this
    cdef size_t nowhere         # what `round_in` returns where there is no round
    cdef uint8_t interrupted    # the round goes on in the next turn

    cdef Block prepare(self, list circles, size_t size, tuple excluded, object key, Value value)
    cdef int publish(self, list circles, Block block, uint8_t opcode, const char* data, size_t size, tuple excluded,
                     object key, Value value) except -1
    cdef Value supersede(self, object key)
    cdef Outbox find(self, object number)

    cdef int remove(self, uint32_t free) except -1
    cdef uint32_t fill(self, uint32_t free, uint32_t slot) except? 0
    cdef uint64_t log(self, Block block, uint8_t opcode, const char* data, size_t* size, tuple excluded,
                      Value value) except? 0
    cdef int catch_up_all(self, tuple excluded) except -1
    cdef uint64_t pass_over(self, tuple excluded) except? 0
    cdef size_t audience(self) noexcept nogil
    cdef PyObject** outboxes(self) noexcept nogil
    cdef size_t* round_in(self, Circle circle) noexcept
    cdef bint takes(self, Circle circle) except -1
    cdef int begin(self, Circle circle) except -1
    cdef bint can_settle(self, size_t count) except -1
    cdef int settle(self) except -1
    cdef int send_all(self) except -1
    cdef bint send_until(self, uint64_t deadline) except -1
    cdef bint serve(self, uint64_t deadline) except -1
    cdef int call_crew(self, const crest_piece* pieces, size_t count, uint64_t deadline) except -1
    cdef size_t send_ready(
        self, const crest_piece* pieces, size_t count, uint64_t deadline, ptrdiff_t* sent) noexcept nogil
