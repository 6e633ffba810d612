# What an outbox gets of the log piece by piece; see supply.pyx.

from libc.stdint cimport uint64_t

from crest.io.out.backlog cimport Backlog
from crest.io.out.circle cimport Circle
from crest.io.out.latest cimport Latest
from crest.io.out.framelog cimport Log
from crest.io.out.outbox cimport Outbox


cdef class Supply(Log):
    cdef Circle circle          # whose members the log is for; None: it is for all, or empty
    cdef Latest latest          # None: keys mean nothing with this policy
    cdef uint64_t plain_end     # position behind the last message without a key

    cdef bint is_for(self, Backlog outbox) noexcept
    cdef int pull(self, Backlog outbox) except -1
    cdef int push_rest(self, Outbox outbox, size_t sent) except -1
    cdef int skip_keyed(self, Backlog outbox) except -1
    cdef int clear(self) except -1
