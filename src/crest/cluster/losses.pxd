# What was lost, and is to be told; see losses.pyx.

from libc.stdint cimport uint64_t

from crest.io.loop.clock cimport Clock, Deadline


cdef class Losses(Deadline):
    cdef Clock clock
    cdef object on_gap          # None: only the log is told
    cdef dict gathered          # [lost, uncertain, since, until] by cause
    cdef readonly dict totals   # messages by cause, those of an unknown number left out
    cdef double next            # by the clock's time: nothing is told before
    cdef bint due               # the deadline runs

    cdef int note(self, str cause, uint64_t lost, bint uncertain, uint64_t since, uint64_t until) except -1
