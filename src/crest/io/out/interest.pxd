# Which rooms of a server have members; see interest.pyx.

from libc.stdint cimport uint64_t


cdef class Interest:
    cdef public bint members            # it is told of each member, too
    cdef public bint missed             # what was to be told raised an exception; its reader makes it False
    cpdef began(self, str name, bint of_user)
    cpdef ended(self, str name, bint of_user)
    cpdef entered(self, str name, bint of_user, uint64_t number)
    cpdef exited(self, str name, bint of_user, uint64_t number)
