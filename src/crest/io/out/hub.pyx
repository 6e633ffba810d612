"""What the connections of one server share: its handlers, its limits, and while a loop serves it, its fan-out."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from libc.math cimport ceil
from libc.stdint cimport UINT32_MAX, int64_t, uint8_t, uint32_t

from crest.io.loop.turn cimport Block, Turn, begin_section, end_section, must_wait
from crest.io.out.arguments cimport as_bytes, as_text, utf8_of
from crest.io.out.crew cimport Crew
from crest.io.out.deflation cimport Compression
from crest.io.out.fanout cimport Fanout
from crest.io.out.latest cimport Value
from crest.io.out.outbox cimport Outbox
from crest.io.out.tally cimport Tally
from crest.wire.frames cimport FrameReader
from crest.wire.meter cimport Meter, Rates
from crest.wire.rfc6455 cimport OPCODE_BINARY, OPCODE_TEXT, RSV1

from weakref import WeakValueDictionary

POLICIES = "close", "drop-newest", "drop-oldest", "latest"  # in the order of backlog.pxd's Policy


@cython.final
cdef class Hub:
    """Handlers and limits of one server.

    Attributes:
        relay: `relay(opcode, payload, key, compress)` is called by the loop for each broadcast, once this server's
            connections have it; `payload` is `bytes`. None: nothing is. It must not raise.

    Args:
        max_message_size: bytes, see `FrameReader`.
        max_fragments: frames, see `FrameReader`.
        max_backlog: bytes, see `Fanout`.
        on_backlog: one of POLICIES, see `Fanout`.
        max_queue: messages that may wait for an async handler before the socket is no longer read.
        close_timeout: seconds for the peer to answer a close frame, and for handlers to end after the connection.
        fanout_slice: seconds, see `Fanout`.
        fanout_threads: see `Crew`.
        ping_interval, ping_timeout, idle_timeout: seconds, None for never; see `Heartbeat`.
        slow_handler: seconds that handlers may block the loop before that is logged; None: any number.
        rates: at which each client may send; None: at any.
        deflate: a `Deflate`, how messages are compressed; None: they are not.
    """

    def __cinit__(self, *, max_message_size, max_fragments, max_backlog, str on_backlog, max_queue,
                  double close_timeout, double fanout_slice, uint32_t fanout_threads=1, ping_interval=None,
                  ping_timeout=None, idle_timeout=None, slow_handler=None, Rates rates=None, deflate=None):
        self.max_message_size = max_message_size
        self.max_fragments = max_fragments
        self.max_backlog = max_backlog
        self.on_backlog = on_backlog
        self.max_queue = max_queue
        self.close_timeout = close_timeout
        self.fanout_slice = fanout_slice
        self.fanout_threads = fanout_threads
        self.ping_interval = milliseconds_of(ping_interval, 0)
        self.ping_timeout = milliseconds_of(ping_timeout, 0)
        self.idle_timeout = milliseconds_of(idle_timeout, 0)
        self.slow_handler = milliseconds_of(slow_handler, UINT32_MAX)
        self.rates = rates
        self.deflate = deflate
        self.tally = Tally()

    def __init__(self, **options):
        self.options = options

    def register(self, str event, handler):
        """Have a handler called for an event, on the connections that are open too.

        Args:
            event: its name, "on_message" for one.
        """
        cdef Hub each
        setattr(self, event, handler)
        for each in self.variants():
            setattr(each, event, handler)

    def open(self, Turn turn not None):
        """Make the fan-outs: a loop begins to serve this server's connections."""
        self.crew = Crew(self.fanout_threads) if self.fanout_threads > 1 else None
        self.fanout = self.new_fanout(turn)
        if self.deflate is not None:
            self.compression = Compression(self.deflate)
            self.compressing = self.new_fanout(turn)

    def variant(self, limits not None, changed not None):
        """Return a hub of the same server, with other limits for some of its connections.

        Connections with the same limits share one.

        Args:
            limits: tells it from other variants; hashable.
            changed: the options in which it differs, by name.
        """
        cdef Hub other
        if self.made is None:
            self.made = WeakValueDictionary()
        other = self.made.get(limits)
        if other is None:
            other = Hub(**(self.options | changed))
            other.origin = self
            other.tally = self.tally
            other.on_connect, other.on_message, other.on_binary = self.on_connect, self.on_message, self.on_binary
            other.on_close, other.on_error, other.on_drain = self.on_close, self.on_error, self.on_drain
            self.made[limits] = other
        other.fanout, other.compressing, other.compression = self.fanout, self.compressing, self.compression
        return other

    def variants(self):
        """List the variants that connections have."""
        return [] if self.made is None else list(self.made.values())

    cdef Fanout new_fanout(self, Turn turn):
        return Fanout(turn, self.tally, max_backlog=self.max_backlog, policy=POLICIES.index(self.on_backlog),
                      slice=self.fanout_slice, crew=self.crew)

    def close(self):
        """Let go of the fan-outs, and stop the crew: no loop serves this server any more."""
        cdef Hub each
        for each in self.variants():
            each.close()
        self.fanout = self.compressing = self.compression = None
        if self.crew is not None:
            self.crew.stop()
            self.crew = None

    cdef Fanout admit(self, Outbox connection, object agreed):
        """Return the fan-out that a connection is to join.

        `agreed` is the connection's `Agreement` on compression, or None."""
        if self.fanout is None:
            raise RuntimeError("no event loop serves this server any more")
        if agreed is None:
            return self.fanout
        connection.deflation = self.compression.open(agreed, not self.compressing.members)
        return self.compressing

    cdef FrameReader new_reader(self, object agreed, uint32_t now):
        """Make what reads a connection's messages; `now` is the time by the loop's clock, in milliseconds."""
        cdef FrameReader reader = FrameReader.__new__(FrameReader)
        reader.max_message_size = self.max_message_size
        reader.max_fragments = self.max_fragments
        if self.rates is not None:
            reader.meter = Meter(self.rates, now)
        if agreed is not None:
            reader.inflater = self.compression.codec.inflater(agreed)
        return reader

    def connections(self):
        """List the connections that are open."""
        return members_of(self.fanout) + members_of(self.compressing)

    def connection_count(self):
        return count_of(self.fanout) + count_of(self.compressing)

    cpdef broadcast(self, text, key=None, bint compress=True):
        """See `Broadcaster`."""
        cdef Py_ssize_t size
        cdef str exact = as_text("broadcast", text)
        cdef const char* data = utf8_of(exact, &size)
        hash(key)  # TypeError if it has none, with any policy
        self.publish_soon(OPCODE_TEXT, data, size, exact, key, compress)

    cpdef broadcast_binary(self, data, key=None, bint compress=True):
        """See `Broadcaster`."""
        cdef bytes copy = as_bytes("broadcast", data)
        hash(key)
        self.publish_soon(OPCODE_BINARY, PyBytes_AS_STRING(copy), len(copy), copy, key, compress)

    cdef int publish_soon(
            self, uint8_t opcode, const char* data, size_t size, object owner, object key, bint compress) except -1:
        """Broadcast now, or soon where the call must wait. `owner` is the immutable object whose memory `data` is."""
        if self.fanout is None:
            return 0
        if must_wait(self.fanout.turn):
            self.post(self.fanout, self.compressing, opcode, size, owner, key, compress)
            return 0
        return self.publish_and_relay(opcode, data, size, key, compress)

    cdef int post(self, Fanout plain, Fanout compressing, uint8_t opcode, size_t size, object owner, object key,
                  bint compress) except -1:
        """Have the loop broadcast soon: the call comes from another thread, or within a section."""
        cdef bint called
        count_posted(plain, compressing, size)  # before the loop's thread can take it off
        try:
            called = plain.turn.call_later(
                self._publish_posted, plain, compressing, opcode, size, owner, key, compress)
        except BaseException:
            count_posted(plain, compressing, -<int64_t>size)
            raise
        if not called:
            count_posted(plain, compressing, -<int64_t>size)
        return 0

    def _publish_posted(self, Fanout plain, Fanout compressing, int opcode, size_t size, owner, key, bint compress):
        cdef Py_ssize_t length = size
        cdef const char* data = utf8_of(owner, &length) if opcode == OPCODE_TEXT else PyBytes_AS_STRING(owner)
        count_posted(plain, compressing, -<int64_t>size)
        if self.fanout is not None:
            self.publish_and_relay(<uint8_t>opcode, data, size, key, compress)

    cdef int publish_and_relay(
            self, uint8_t opcode, const char* data, size_t size, object key, bint compress) except -1:
        """Broadcast here, and have the broadcast relayed to wherever else this server's clients are."""
        self.publish(opcode, data, size, key, compress)
        if self.relay is not None:
            self.relay(opcode, data[:size], key, compress)
        return 0

    def deliver(self, int opcode, bytes payload not None, key=None, bint compress=True):
        """Broadcast to this server's connections what another process has relayed. It is not relayed again.

        Args:
            opcode: Opcode.TEXT or Opcode.BINARY.
            payload: of the message; of text its UTF-8, which is valid.
            key, compress: See `Broadcaster`.
        """
        if self.fanout is None:
            return
        if must_wait(self.fanout.turn):
            self.fanout.turn.call_later(self.deliver, opcode, payload, key, compress)
        else:
            self.publish(<uint8_t>opcode, PyBytes_AS_STRING(payload), len(payload), key, compress)

    cdef int publish(self, uint8_t opcode, const char* data, size_t size, object key, bint compress) except -1:
        """Broadcast to connections that do not compress, and to those that do: compressed once, if that is worth it.

        All that may fail comes before any connection has the message. So an exception means that none gets it."""
        cdef Fanout plain = self.fanout, compressing = self.compressing
        cdef Turn turn = plain.turn
        cdef bytes payload = None
        cdef Block block, other = None
        cdef Value value = None, second = None
        begin_section(turn)
        try:
            if compressing is not None and not compressing.members:
                compressing = None
            if key is not None:
                value = plain.supersede(key)
                if compressing is not None:
                    second = compressing.supersede(key)
            if compressing is not None and compress:
                payload = self.compression.compress_for_all(data, size)
            block = plain.prepare(size, value)
            if compressing is not None:
                other = compressing.prepare(size if payload is None else len(payload), second)
            if block is not None:
                plain.publish(block, opcode, data, size, value)
            if payload is not None:
                compressing.publish(other, opcode | RSV1, PyBytes_AS_STRING(payload), len(payload), second)
            elif other is not None:
                compressing.publish(other, opcode, data, size, second)
            self.tally.broadcasts += 1
        finally:
            end_section(turn)
        return 0


cdef int count_posted(Fanout plain, Fanout compressing, int64_t size) except -1:
    """Add to the bytes of broadcasts that wait, which count in `buffered` of all connections."""
    plain.posted += size
    if compressing is not None:
        compressing.posted += size
    return 0


cdef list members_of(Fanout fanout):
    """List the members, in a new list."""
    return [] if fanout is None else list(fanout.members)


cdef Py_ssize_t count_of(Fanout fanout) except -1:
    return 0 if fanout is None else len(fanout.members)


cdef uint32_t milliseconds_of(seconds, uint32_t otherwise) except? 0:
    """Convert seconds to milliseconds, rounded up; `otherwise` for None."""
    return otherwise if seconds is None else <uint32_t>ceil(<double>seconds * 1000)
