# The time for which handlers block the loop; see watch.pyx.

from libc.stdint cimport uint32_t
from libc.string cimport memset

from crest.io.loop.clock cimport Clock, milliseconds
from crest.io.out.hub cimport Hub
from crest.io.out.outbox cimport Outbox

cdef class Steps:
    cdef object steps           # iterator
    cdef Hub hub
    cdef Clock clock
    cdef Outbox connection
    cdef int event
    cdef uint32_t begin(self) except? 0
    cdef int end(self, uint32_t since) except -1

cdef object in_steps(object awaitable, Hub hub, Outbox connection, int event)
cdef int report(Hub hub, Outbox connection, uint32_t elapsed) except -1


cdef inline uint32_t begin_service(Hub hub, Clock clock) except? 0:
    """Count the calls of handlers from here: the loop begins to serve a connection. Returns the time."""
    if hub is not None:
        memset(hub.calls, 0, sizeof(hub.calls))
    return milliseconds(clock)


cdef inline int end_service(Hub hub, Clock clock, Outbox connection, uint32_t since) except -1:
    """Report handlers that took too long since `begin_service` returned `since`: the connection has been served."""
    cdef uint32_t elapsed
    if hub is not None:
        elapsed = milliseconds(clock) - since
        if elapsed >= hub.slow_handler:
            report(hub, connection, elapsed)
    return 0
