"""Compression of the messages of one server's connections, while a loop serves it (RFC 7692).

A connection that has agreed on permessage-deflate compresses with a `Deflation`. Without context takeover it holds
nothing of one connection: all connections with the same agreement share one. A `Compression` makes them, and
compresses each broadcast once for all connections.

This room decides which messages are compressed, and with which window. wire/deflate.pyx does the compressing. Frames
are written by the outbox and the fan-out.
"""

cimport cython
from libc.stdint cimport uint64_t

from crest.wire.deflate cimport Codec


@cython.final
@cython.no_gc
cdef class Compression:
    """The compression that the connections of one server share.

    Args:
        options: the server's, a `Deflate`.
    """

    def __cinit__(self, options not None):
        self.codec = Codec(level=options.level, memory_level=options.memory_level)
        self.threshold = max(<uint64_t>options.threshold, <uint64_t>1)  # an empty message can not become shorter
        self.window_bits = options.server_max_window_bits
        self.stateless = {}

    cdef Deflation open(self, object agreed, bint alone):
        """Return the `Deflation` of a connection that opens with this `Agreement`.

        From now on broadcasts have to fit its window, too. `alone`: no other compressing connection is open, so its
        window is the only one."""
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
        """Compress the payload of a broadcast; None when it is to be sent as it is."""
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
    """The compression of one connection, or without context takeover of several.

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
        """Compress the payload of a message; None when it is to be sent as it is.

        What is returned must be sent, in the order of the calls. If it is not, `forget` must be called."""
        if size < self.threshold:
            return None
        if self.shared is not None and self.broadcasts != self.shared.broadcasts:
            # The client's window has gone on with broadcasts, and this deflater's has not.
            self.broadcasts = self.shared.broadcasts
            self.deflater.forget()
        return self.deflater.compress(data, size)

    cdef bytes compress_alone(self, const char* data, size_t size):
        """Compress the payload of a message that refers to no other; None when it is to be sent as it is. It need not
        be sent, and what is compressed later may be sent before it."""
        if self.shared is not None:
            return self.shared.compress_for_all(data, size)
        return self.compress(data, size)

    cdef void forget(self) noexcept:
        """Forget the window: what was compressed last is not sent."""
        self.deflater.forget()

    cdef void end(self) noexcept:
        """Give back a window of the connection's own: it is gone, and compresses nothing more."""
        if self.shared is not None:
            self.deflater = None
