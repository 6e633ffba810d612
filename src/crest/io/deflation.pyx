"""What one server's connections compress their messages with, while a loop serves it (RFC 7692).

A `Deflation` is what a connection sends with that has agreed on permessage-deflate. Without context takeover nothing of
it is the connection's own: all that have agreed on the same have the same one. A `Compression` makes them, and
compresses broadcasts, once for everybody.

It decides which messages are compressed, and with which window. How is wire/deflate.pyx's business, and frames are the
outbox's and the fan-out's.
"""

cimport cython
from libc.stdint cimport uint64_t

from crest.wire.deflate cimport Codec


@cython.final
@cython.no_gc
cdef class Compression:
    """What the compressing connections of one server share.

    Args:
        options: the server's, a `Deflate`.
    """

    def __cinit__(self, options not None):
        self.codec = Codec(level=options.level, memory_level=options.memory_level)
        self.threshold = max(<uint64_t>options.threshold, <uint64_t>1)  # an empty message can not become shorter
        self.window_bits = options.server_max_window_bits
        self.stateless = {}

    cdef Deflation open(self, object agreed, bint alone):
        """A connection opens that has made this `Agreement`; `alone` if there is no other open.

        From now on broadcasts have to suit its window too."""
        cdef Deflation deflation
        cdef int window_bits = agreed.server_max_window_bits
        self.window_bits = window_bits if alone else min(self.window_bits, window_bits)
        if not agreed.server_no_context_takeover:
            return Deflation(self, agreed)
        deflation = self.stateless.get(agreed.response)
        if deflation is None:
            deflation = self.stateless[agreed.response] = Deflation(self, agreed)
        return deflation

    cdef bytes compress_for_all(self, const char* data, size_t size):
        """The payload of a compressed broadcast; None when it is to be sent as it is."""
        cdef bytes payload
        if size < self.threshold:
            return None
        payload = self.codec.shared_deflater(self.window_bits).compress(data, size)
        if payload is not None:
            self.broadcasts += 1
        return payload


@cython.final
@cython.no_gc
cdef class Deflation:
    """What one connection compresses with, or several without context takeover.

    Args:
        compression: of its server.
        agreed: an `Agreement`.
    """

    def __cinit__(self, Compression compression not None, agreed not None):
        self.agreed = agreed.response
        self.threshold = compression.threshold
        self.deflater = compression.codec.deflater(agreed)
        if self.deflater.takeover:
            self.shared = compression

    cdef bytes compress(self, const char* data, size_t size):
        """The payload of a compressed message; None when it is to be sent as it is.

        It must be sent, and in the order of the calls, or else `forget` be called."""
        if size < self.threshold:
            return None
        if self.shared is not None and self.broadcasts != self.shared.broadcasts:
            # The client's window has gone on with what was broadcast, and this deflater's has not.
            self.broadcasts = self.shared.broadcasts
            self.deflater.forget()
        return self.deflater.compress(data, size)

    cdef void forget(self) noexcept:
        """What was compressed last is not sent."""
        self.deflater.forget()

    cdef void end(self) noexcept:
        """The connection is gone, and nothing more is compressed: windows of its own are given back."""
        if self.shared is not None:
            self.deflater = None
