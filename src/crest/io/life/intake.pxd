# Memory of what one connection has taken in and not handled; see intake.pyx.

from libc.stdint cimport uint32_t, uint64_t

from crest.io.life.host cimport Host
from crest.io.loop.budget cimport Budget

# The kinds of what is held.
cdef enum:
    EVENTS      # messages, and other events, behind a handler that runs
    UNREAD      # bytes that are not read on because too many events wait
    PARTIAL     # a message that is being put together
    REQUESTS    # HTTP requests, and responses to them
    ANSWERS     # of TLS itself, to the peer
    KINDS


cdef class Intake:
    cdef Budget budget
    cdef Host host
    cdef object events          # deque of (event, argument, argument, bytes); None: there were none
    cdef uint32_t count         # of events
    cdef uint64_t sizes[KINDS]  # bytes of memory
    cdef uint64_t total         # of these

    cdef int hold(self, int kind, uint64_t size) except -1
    cdef int append(self, int event, object first, object second) except -1
    cdef tuple pop(self)
    cdef bint drop_messages(self, object instead) except -1
    cdef int clear(self) except -1
