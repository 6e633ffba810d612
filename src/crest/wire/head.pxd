# The head of an HTTP message; see head.pyx.

from libc.stdint cimport uint8_t, uint32_t


# A run of a head's bytes, without the whitespace around it. Lives as long as the head.
cdef struct Span:
    const uint8_t* data
    size_t size


cdef class Head:
    cdef readonly bytes raw
    cdef uint32_t* lines            # where in `raw` each header line begins, and behind them the empty line
    cdef uint32_t count             # of header lines
    cdef bint is_1_1                # of HTTP/1.1, not 1.0
    cdef object fields              # `headers`, once they were asked for

    cdef bint find(self, bytes name, uint32_t* line, Span* value) noexcept
    cpdef str joined(self, bytes name)
    cpdef bint lists(self, bytes name, bytes token) except -1


cdef class RequestHead(Head):
    cdef Span method_span, target_span

    cdef int only(self, bytes name, Span* value) except -1
    cpdef bint announces_body(self) except -1


cdef size_t index_fields(Head head, size_t at, size_t max_headers) except? 0
cdef size_t end_of_head(const uint8_t* data, size_t known, size_t size, size_t limit) noexcept
cdef size_t line_end(const uint8_t* data, size_t at, size_t size) noexcept
cdef str text_of(Span span)
cpdef str shown(str value)
