"""What the connections of one server share: its handlers, its limits, and while a loop serves it, its fan-out."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from libc.math cimport ceil
from libc.stdint cimport UINT32_MAX, uint32_t

from crest.io.arguments cimport as_bytes, utf8_of
from crest.io.fanout cimport Fanout
from crest.io.turn cimport Turn, is_elsewhere
from crest.wire.rfc6455 cimport OPCODE_BINARY, OPCODE_TEXT

POLICIES = "close", "drop-newest", "drop-oldest", "latest"  # in the order of outbox.pxd's Policy


@cython.final
cdef class Hub:
    """Handlers and limits of one server.

    Args:
        max_message_size: bytes, see `FrameReader`.
        max_fragments: frames, see `FrameReader`.
        max_backlog: bytes, see `Fanout`.
        on_backlog: one of POLICIES, see `Fanout`.
        max_queue: messages that may wait for an async handler before the socket is no longer read.
        close_timeout: seconds for the peer to answer a close frame, and for handlers to end after the connection.
        fanout_slice: seconds, see `Fanout`.
        ping_interval, ping_timeout, idle_timeout: seconds, None for never; see `Heartbeat`.
        slow_handler: seconds that handlers may block the loop before that is logged; None: any number.
    """

    def __cinit__(self, *, max_message_size, max_fragments, max_backlog, str on_backlog, max_queue,
                  double close_timeout, double fanout_slice, ping_interval=None, ping_timeout=None, idle_timeout=None,
                  slow_handler=None):
        self.max_message_size = max_message_size
        self.max_fragments = max_fragments
        self.max_backlog = max_backlog
        self.on_backlog = on_backlog
        self.max_queue = max_queue
        self.close_timeout = close_timeout
        self.fanout_slice = fanout_slice
        self.ping_interval = milliseconds_of(ping_interval, 0)
        self.ping_timeout = milliseconds_of(ping_timeout, 0)
        self.idle_timeout = milliseconds_of(idle_timeout, 0)
        self.slow_handler = milliseconds_of(slow_handler, UINT32_MAX)

    def open(self, Turn turn not None):
        """A loop begins to serve this server's connections."""
        self.fanout = Fanout(
            turn, max_backlog=self.max_backlog, policy=POLICIES.index(self.on_backlog), slice=self.fanout_slice)

    def close(self):
        """No loop serves it any more."""
        self.fanout = None

    def connections(self):
        """A list of the connections that are open."""
        cdef Fanout fanout = self.fanout
        return [] if fanout is None else list(fanout.members)

    def connection_count(self):
        cdef Fanout fanout = self.fanout
        return 0 if fanout is None else len(fanout.members)

    def broadcast(self, text not None, key=None):
        """See `WebSocketServer.broadcast`."""
        cdef Py_ssize_t size
        cdef const char* data = utf8_of("broadcast", text, &size)
        cdef Fanout fanout = self.fanout
        hash(key)  # or TypeError, whatever the policy
        if fanout is not None:
            if is_elsewhere(fanout.turn):
                fanout.turn.call_from_elsewhere(self.broadcast, text, key)
            else:
                fanout.publish(OPCODE_TEXT, data, size, key)

    def broadcast_binary(self, data not None, key=None):
        """See `WebSocketServer.broadcast_binary`."""
        cdef bytes copy = as_bytes("broadcast", data)
        cdef Fanout fanout = self.fanout
        hash(key)
        if fanout is not None:
            if is_elsewhere(fanout.turn):
                fanout.turn.call_from_elsewhere(self.broadcast_binary, copy, key)
            else:
                fanout.publish(OPCODE_BINARY, PyBytes_AS_STRING(copy), len(copy), key)


cdef uint32_t milliseconds_of(seconds, uint32_t otherwise) except? 0:
    """Rounded up; `otherwise` for None."""
    return otherwise if seconds is None else <uint32_t>ceil(<double>seconds * 1000)
