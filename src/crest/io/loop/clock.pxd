# Deadlines of connections; see clock.pyx.

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t

from crest.io.syscalls cimport crest_milliseconds

cdef enum:
    TRIES = 8       # to do what must be done, and needs memory


cdef class Deadline:
    # Neighbours in a ring, borrowed: a deadline takes itself out before it goes. NULL: it is not running.
    cdef PyObject* previous
    cdef PyObject* following
    cdef double due                 # by the clock's time

    cpdef expired(self)


cdef class Ring(Deadline):
    cdef double earliest(self) noexcept


cdef class Clock:
    cdef object loop
    cdef object time                # None: the system's monotonic clock, from compiled code
    cdef dict rings                 # Ring of each duration
    cdef Ring again                 # of deadlines that had no memory for their work, and expire again
    cdef object timer               # of the loop
    cdef double timer_due           # by `time`; infinite: no timer is set

    cpdef start(self, Deadline deadline, double seconds)
    cpdef cancel(self, Deadline deadline)

    cdef double now(self) except? -1
    cdef int set_timer(self, double due, double now) except -1
    cdef Ring ring_of(self, double seconds)
    cdef int expire(self, double now) except -1
    cdef double earliest(self) except? -1


cdef inline uint32_t milliseconds(Clock clock) except? 0:
    """Return the time, modulo 2**32, and late by 10 at most: cheap enough to be asked at every read."""
    if clock.time is None:
        return crest_milliseconds()
    return <uint32_t><int64_t>(clock.now() * 1000 + 0.5)
