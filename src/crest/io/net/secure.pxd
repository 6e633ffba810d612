# One TLS connection; see secure.pyx.

from libc.stdint cimport uint8_t, uint32_t

from crest.io.loop.clock cimport Deadline
from crest.io.net.stream cimport StreamTransport


cdef class Handshake(Deadline):
    cpdef over(self, error)


cdef class SecureTransport(StreamTransport):
    cdef object tls             # ssl.SSLObject; None: not begun, or all is over
    cdef object engine          # the object that `tls` itself calls
    cdef object incoming        # ssl.MemoryBIO: bytes from the peer, never more than one record
    cdef object outgoing        # ssl.MemoryBIO: bytes to the peer
    cdef bytearray room         # bytes are received here first; shared by the connections of one listening socket
    cdef Handshake handshake    # None: it has ended well, or all is over
    cdef uint32_t answers       # bytes of TLS's own answers among what is pending, at most
    cdef uint32_t missing       # bytes that are still to come of the record that has begun
    cdef uint8_t header[5]      # of the record that has begun
    cdef uint8_t header_size    # bytes of `header` that have come
    cdef uint8_t notified       # close_notify was sent: nothing can be written any more

    cdef bint feed(self, const char** data, size_t* size) except -1
    cdef int shake(self) except -1
    cdef int shaken(self) except -1
    cdef int decrypt(self, const char* data, size_t size) except -1
    cdef ptrdiff_t decrypt_record(self, char* where, size_t room) except? -9
    cdef int push_records(self, list records) except -1
    cdef int flush(self) except -1
    cdef size_t unsent(self) noexcept
    cdef int answered(self, size_t size) except -1
    cdef int forget(self) except -1
