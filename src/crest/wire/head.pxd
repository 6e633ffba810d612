# The head of an HTTP request; see head.pyx.

from libc.stdint cimport uint8_t, uint32_t


# A run of a head's bytes, without the whitespace around it. Lives as long as the head.
cdef struct Span:
    const uint8_t* data
    size_t size


cdef class RequestHead:
    cdef readonly bytes raw
    cdef uint32_t* lines            # where in `raw` each header line begins, and behind them the empty line
    cdef uint32_t count             # of header lines
    cdef Span method_span, target_span
    cdef bint is_1_1                # of HTTP/1.1, not 1.0
    cdef object fields              # `headers`, once they were asked for

    cdef bint find(self, bytes name, uint32_t* line, Span* value) noexcept
    cdef int only(self, bytes name, Span* value) except -1
    cpdef str joined(self, bytes name)
    cpdef bint lists(self, bytes name, bytes token) except -1
    cpdef bint announces_body(self) except -1


cdef str text_of(Span span)
cpdef str shown(str value)
