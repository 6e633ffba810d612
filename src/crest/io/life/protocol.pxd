# One connection's transport callbacks; see protocol.pyx.

from libc.stdint cimport uint8_t

from crest.io.life.writing cimport Writing


cdef enum:
    NO_SLOT = 0xFFFFFFFF


cdef class Protocol(Writing):
    cdef uint8_t into_body              # the transport reads straight into a message

    cdef int buffer(self, char** where, size_t* room) except -1
    cdef object view(self, char* where, size_t room)
    cdef int received(self, size_t size) except -1
    cdef int loop_closed(self) except -1
    cdef int take(self, size_t size) except -1
    cdef int read(self) except -1
    cdef int read_frames(self) except -1
    cdef int unwanted(self, str kind) except -1
    cdef int chunk_read(self) except -1
    cdef int read_rest(self) except -1
    cdef int uncork(self) except -1
    cdef int count(self) except -1
    cdef int overhead(self, size_t size) except -1
