# The connections of one listener; see roster.pyx.

from crest.io.loop.census cimport Census


cdef class Roster:
    cdef readonly list protocols        # Protocol, each at its `slot`
    cdef public Census census           # is told how many there are; None: nothing is
