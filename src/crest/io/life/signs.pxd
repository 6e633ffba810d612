# Signs of life and of progress in the kernel and in the transport; see signs.pyx.

from libc.stdint cimport uint32_t

# What the last look has found.
cdef struct Seen:
    uint32_t acknowledged   # bytes, by the peer's kernel; plus bytes received, where the peer is not read
    uint32_t unsent         # bytes in the transport, of a plain HTTP response

cdef int descriptor_of(object transport) except? -1
cdef bint has_input(object transport) except -1
cdef bint is_silent(object transport, Seen* seen) except -1
cdef bint acknowledges(object transport, Seen* seen) except -1
cdef bint takes_response(object transport, Seen* seen) except -1
