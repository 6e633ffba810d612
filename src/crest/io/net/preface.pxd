# Connections that have been accepted and have no transport yet; see preface.pyx.

from crest.io.loop.poller cimport Pollable, Poller
from crest.io.loop.turn cimport Turn
from crest.io.net.secure cimport Handshake, SecureTransport
from crest.io.syscalls cimport crest_address


cdef class Lobby:
    cdef Poller poller
    cdef Turn turn
    cdef object reception
    cdef object connector       # None: connections get transports of crest's own
    cdef double seconds
    cdef bint tls
    cdef bytearray room         # of all transports with TLS
    cdef set waiting            # Preface
    cdef int enter(self, int fd, const crest_address* peer) except -1
    cdef int close(self) except -1


cdef class Grace(Handshake):
    cdef Preface preface        # None: it is over


cdef class Preface(Pollable):
    cdef Lobby lobby
    cdef Grace grace
    cdef object arrival         # None: it is over
    cdef object header          # ProxyHeader; None: none is awaited
    cdef SecureTransport transport  # that shakes hands; None: there is none
    cdef object task            # which makes the loop's transport; None: there is none
    cdef crest_address peer
    cdef bint kept              # by the poller
    cdef int begin(self) except -1
    cdef int read(self) except -1
    cdef bint read_header(self, object arrival) except -1
    cdef int await_bytes(self) except -1
    cdef int serve(self, object arrival) except -1
    cdef int shake_hands(self, object arrival) except -1
    cdef int lend(self, object arrival, object site, object context) except -1
    cdef int shaken(self, object error) except -1
    cdef int late(self) except -1
    cdef bint moved_on(self, object arrival) except -1
    cdef int cut(self) except -1
    cdef int leave(self) except -1
    cdef int let_go(self) except -1
