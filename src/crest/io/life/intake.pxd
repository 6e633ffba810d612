# Memory of what one connection has taken in and not handled; see intake.pyx.

from libc.stdint cimport uint32_t, uint64_t

from crest.io.loop.budget cimport Budget
from crest.io.out.backlog cimport Owner

# The kinds of what is held.
cdef enum:
    EVENTS      # messages, and other events, behind a handler that runs
    UNREAD      # bytes that are not read on because too many events wait
    PARTIAL     # a message that is being put together
    OPENING     # requests before the upgrade, and responses to them
    ANSWERS     # of TLS itself, to the peer
    KINDS


cdef class Intake:
    cdef Budget budget
    cdef Owner owner
    cdef object events          # deque of (event, argument, argument, bytes); None: there were none
    cdef uint32_t count         # of events
    cdef uint64_t sizes[KINDS]  # bytes of memory
    cdef uint64_t total         # of these

    cdef int hold(self, int kind, uint64_t size) except -1
    cdef int append(self, int event, object first, object second) except -1
    cdef tuple pop(self)
    cdef bint drop_messages(self, object instead) except -1
    cdef int clear(self) except -1


cdef inline bint is_over(Intake intake) noexcept:
    """True if the budget is used up: no more should be read for now."""
    return intake.budget.used > intake.budget.limit
