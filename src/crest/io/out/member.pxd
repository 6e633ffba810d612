# The rooms of one connection; see member.pyx.

from crest.io.out.outbox cimport Outbox


cdef class Member(Outbox):
    pass
