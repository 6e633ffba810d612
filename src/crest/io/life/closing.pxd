# The end of one connection; see closing.pyx.

from crest.io.life.calls cimport Event
from crest.io.life.reading cimport Reading
from crest.io.life.signs cimport Seen


cdef class Closing(Reading):
    cdef object site
    cdef Seen seen

    cdef int deliver(self, Event event, object first, object second) except -1
    cdef int await_result(self, Event event, object awaitable) except -1
    cdef bint start_closing(self, int code, str reason) except -1
    cdef int send_close(self, int code, str reason) except -1
    cdef int peer_closed(self, int code, str reason) except -1
    cdef int fail_soon(self, int code, str error) except -1
    cdef int finish(self, int code, str reason) except -1
    cdef int linger(self) except -1
    cdef int let_go(self) except -1
    cdef int abandon(self) except -1

    cpdef bint is_taking(self) except -1
    cpdef set_deadline(self, double seconds)
    cpdef clear_deadline(self)
