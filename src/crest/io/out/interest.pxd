# Which rooms of a server have members; see interest.pyx.


cdef class Interest:
    cpdef began(self, str name, bint of_user)
    cpdef ended(self, str name, bint of_user)
