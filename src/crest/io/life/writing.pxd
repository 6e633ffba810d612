# Writing of one connection, and its pauses; see writing.pyx.

from crest.io.life.patience cimport Patience


cdef class Writing(Patience):
    cdef int go_on(self) except -1
    cdef int relieved(self) except -1
