# Deadlines of connections; see clock.pyx.

from cpython.object cimport PyObject


cdef class Deadline:
    # Neighbours in a ring, borrowed: a deadline takes itself out before it goes. NULL: it is not running.
    cdef PyObject* previous
    cdef PyObject* following
    cdef double due                 # by the clock's time

    cpdef expired(self)


cdef class Clock:
    cdef object loop
    cdef object time
    cdef dict rings                 # Ring of each duration
    cdef object timer               # of the loop
    cdef double timer_due           # by `time`; infinite: no timer is set

    cpdef start(self, Deadline deadline, double seconds)
    cpdef cancel(self, Deadline deadline)

    cdef int set_timer(self, double due, double now) except -1
    cdef int expire(self, double now) except -1
    cdef double earliest(self) except? -1
