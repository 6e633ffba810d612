# The connections of one listener; see roster.pyx.


cdef class Roster:
    cdef readonly list protocols        # Protocol, each at its `slot`
