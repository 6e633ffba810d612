"""What the connections of one server share: its handlers, its limits, and while a loop serves it, its fan-out."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from cpython.object cimport PyObject
from libc.math cimport ceil
from libc.stdint cimport UINT32_MAX, int64_t, uint8_t, uint32_t

from crest.io.loop.turn cimport Block, Turn, begin_section, end_section, must_wait
from crest.io.out.address cimport as_address, as_addresses, as_excluded
from crest.io.out.arguments cimport as_bytes, as_text, utf8_of
from crest.io.out.circle cimport Circle
from crest.io.out.crew cimport Crew
from crest.io.out.deflation cimport Compression
from crest.io.out.fanout cimport Fanout
from crest.io.out.interest cimport Interest
from crest.io.out.latest cimport Value
from crest.io.out.outbox cimport Outbox
from crest.io.out.relay cimport Message, Relay
from crest.io.out.tally cimport Tally
from crest.wire.frames cimport FrameReader
from crest.wire.meter cimport Meter, Rates
from crest.wire.rfc6455 cimport OPCODE_BINARY, OPCODE_TEXT, RSV1

from weakref import WeakValueDictionary

POLICIES = "close", "drop-newest", "drop-oldest", "latest"  # in the order of backlog.pxd's Policy

cdef uint32_t AHEAD = 4096      # bytes: `send_ahead` where messages may be dropped or superseded


@cython.final
cdef class Hub:
    """Handlers and limits of one server.

    Attributes:
        relay: gets each broadcast that is not local, once this server's connections have it. None: nothing does.

    Args:
        max_message_size: bytes, see `FrameReader`.
        max_fragments: frames, see `FrameReader`.
        max_backlog: bytes, see `Fanout`.
        on_backlog: one of POLICIES, see `Fanout`.
        send_ahead: bytes that the system may take ahead of a peer. None: few where the policy may drop or supersede
            messages, and as many as it likes with "close".
        max_queue: messages that may wait for an async handler before the socket is no longer read.
        close_timeout: seconds for the peer to answer a close frame, and for handlers to end after the connection.
        fanout_slice: seconds, see `Fanout`.
        fanout_threads: see `Crew`.
        ping_interval, ping_timeout, idle_timeout: seconds, None for never; see `Heartbeat`.
        slow_handler: seconds that handlers may block the loop before that is logged; None: any number.
        rates: at which each client may send; None: at any.
        deflate: a `Deflate`, how messages are compressed; None: they are not.
        user_key: by which a connection's user names its room, see `WebSocketServer`.
    """

    def __cinit__(self, *, max_message_size, max_fragments, max_backlog, str on_backlog, max_queue,
                  double close_timeout, double fanout_slice, uint32_t fanout_threads=1, send_ahead=None,
                  ping_interval=None, ping_timeout=None, idle_timeout=None, slow_handler=None, Rates rates=None,
                  deflate=None, str user_key=None):
        self.max_message_size = max_message_size
        self.max_fragments = max_fragments
        self.max_backlog = max_backlog
        self.on_backlog = on_backlog
        if send_ahead is None:
            send_ahead = UINT32_MAX if on_backlog == "close" else AHEAD
        self.send_ahead = send_ahead
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
        self.user_key = user_key
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
        self.tell_interest()

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
            other.drains_at_once = self.drains_at_once
            self.made[limits] = other
        other.fanout, other.compressing, other.compression = self.fanout, self.compressing, self.compression
        return other

    def variants(self):
        """List the variants that connections have."""
        return [] if self.made is None else list(self.made.values())

    cdef Fanout new_fanout(self, Turn turn):
        return Fanout(turn, self.tally, max_backlog=self.max_backlog, policy=POLICIES.index(self.on_backlog),
                      slice=self.fanout_slice, ahead=self.send_ahead, crew=self.crew, user_key=self.user_key)

    def close(self):
        """Let go of the fan-outs, and stop the crew: no loop serves this server any more."""
        cdef Hub each
        for each in self.variants():
            each.close()
        if self.fanout is not None:
            self.fanout.handout.forget()
        if self.compressing is not None:
            self.compressing.handout.forget()
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

    def find(self, number):
        """Return the connection with this number (`Outbox._number`), or None."""
        found = find_in(self.fanout, number)
        return find_in(self.compressing, number) if found is None else found

    def connection_count(self):
        return count_of(self.fanout) + count_of(self.compressing)

    # ---- Rooms ---------------------------------------------------------------------------------------------------

    def room_size(self, room):
        """Count the members of a room; `room` is its name, or a `UserRoom`."""
        cdef object address = as_address(room)
        return size_in(self.fanout, address) + size_in(self.compressing, address)

    def members(self, *rooms):
        """List the members of rooms, each once."""
        cdef dict found = {}
        for room in rooms:
            address = as_address(room)
            for fanout in (self.fanout, self.compressing):
                found.update(dict.fromkeys(members_in(fanout, address)))
        return list(found)

    def room_names(self):
        """List the names of the rooms that have members."""
        return list({**rooms_of(self.fanout), **rooms_of(self.compressing)})

    def user_names(self):
        """List the names of the users that have connections."""
        return list({**users_of(self.fanout), **users_of(self.compressing)})

    def watch_rooms(self, Interest interest):
        """Have an `Interest` told of rooms from now on, and of those that have members already. None: end that."""
        self.interest = interest
        self.tell_interest()
        if interest is not None:
            for name in self.room_names():
                interest.began(name, False)
            for name in self.user_names():
                interest.began(name, True)

    cdef int tell_interest(self) except -1:
        """Have the rooms of both fan-outs, if there are any, tell whatever is interested."""
        cdef Fanout plain = self.fanout, compressing = self.compressing
        if plain is not None:
            plain.circles.interest = self.interest
        if compressing is not None:
            compressing.circles.interest = self.interest
            compressing.circles.other, plain.circles.other = plain.circles, compressing.circles
        return 0

    # ---- Publishing ----------------------------------------------------------------------------------------------

    def send_elsewhere(self, str process not None, number, int opcode, payload, bint compress):
        """Send a message to a connection of another process. May be called from any thread.

        Args:
            process, number: Of the connection.
            opcode: Opcode.TEXT or Opcode.BINARY.
            payload: `str` or an object with a buffer.

        Returns:
            False if there is no such process, or no way to any.
        """
        cdef Relay relay = self.relay
        cdef bytes data
        data = as_text("send_to", payload).encode() if opcode == OPCODE_TEXT else as_bytes("send_binary_to", payload)
        if relay is None or self.fanout is None or not relay.reaches(process):
            return False
        if must_wait(self.fanout.turn):
            return bool(self.fanout.turn.call_later(relay.send_to, process, number, opcode, data, compress))
        return relay.send_to(process, number, opcode, data, compress)

    cpdef broadcast(self, text, key=None, bint compress=True, to=None, exclude=None, bint local=False):
        """See `Broadcaster`."""
        cdef Message message
        cdef Py_ssize_t size
        cdef str exact = as_text("broadcast", text)
        cdef tuple addresses = as_addresses(to), excluded = as_excluded(exclude)
        message.opcode = OPCODE_TEXT
        message.data = utf8_of(exact, &size)
        message.size = size
        self.check_key(key, local)
        describe(&message, key, compress, addresses, excluded, local)
        self.publish_soon(&message, exact)

    cpdef broadcast_binary(self, data, key=None, bint compress=True, to=None, exclude=None, bint local=False):
        """See `Broadcaster`."""
        cdef Message message
        cdef bytes copy = as_bytes("broadcast", data)
        cdef tuple addresses = as_addresses(to), excluded = as_excluded(exclude)
        message.opcode = OPCODE_BINARY
        message.data = PyBytes_AS_STRING(copy)
        message.size = len(copy)
        self.check_key(key, local)
        describe(&message, key, compress, addresses, excluded, local)
        self.publish_soon(&message, copy)

    cdef int check_key(self, object key, bint local) except -1:
        """Raise TypeError or ValueError for a key that can not be one."""
        hash(key)  # TypeError if it has none, with any policy
        if key is not None and self.relay is not None and not local:
            self.relay.check(key)
        return 0

    cdef int publish_soon(self, Message* message, object owner) except -1:
        """Broadcast now, or soon where the call must wait. `owner` is the immutable object that has the payload."""
        if self.fanout is None:
            return 0
        if must_wait(self.fanout.turn):
            self.post(self.fanout, self.compressing, message, owner)
            return 0
        return self.publish_and_relay(message)

    cdef int post(self, Fanout plain, Fanout compressing, Message* message, object owner) except -1:
        """Have the loop broadcast soon: the call comes from another thread, or within a section."""
        cdef bint called
        cdef size_t size = message.size
        count_posted(plain, compressing, size)  # before the loop's thread can take it off
        try:
            called = plain.turn.call_later(
                self._publish_posted, plain, compressing, message.opcode, size, owner, <object>message.key,
                message.compress, <object>message.to, <object>message.excluded, message.local)
        except BaseException:
            count_posted(plain, compressing, -<int64_t>size)
            raise
        if not called:
            count_posted(plain, compressing, -<int64_t>size)
        return 0

    def _publish_posted(self, Fanout plain, Fanout compressing, int opcode, size_t size, owner, key, bint compress,
                        tuple to, tuple excluded, bint local):
        cdef Message message
        cdef Py_ssize_t length = size
        count_posted(plain, compressing, -<int64_t>size)
        message.opcode = <uint8_t>opcode
        message.data = utf8_of(owner, &length) if opcode == OPCODE_TEXT else PyBytes_AS_STRING(owner)
        message.size = size
        describe(&message, key, compress, to, excluded, local)
        if self.fanout is not None:
            self.publish_and_relay(&message)

    cdef int publish_and_relay(self, Message* message) except -1:
        """Broadcast here, and have the broadcast relayed to wherever else this server's clients are."""
        self.publish(message)
        if self.relay is not None and not message.local:
            self.relay.relay(message)
        return 0

    def deliver(self, int opcode, bytes payload not None, key=None, bint compress=True, to=None):
        """Broadcast to this server's connections what another process has relayed. It is not relayed again.

        Args:
            opcode: Opcode.TEXT or Opcode.BINARY.
            payload: of the message; of text its UTF-8, which is valid.
            key, compress, to: See `Broadcaster`.
        """
        cdef Message message
        cdef tuple addresses = as_addresses(to)
        if self.fanout is None:
            return
        if must_wait(self.fanout.turn):
            self.fanout.turn.call_later(self.deliver, opcode, payload, key, compress, addresses)
        else:
            message.opcode = <uint8_t>opcode
            message.data = PyBytes_AS_STRING(payload)
            message.size = len(payload)
            describe(&message, key, compress, addresses, None, True)
            self.publish(&message)

    cdef int publish(self, const Message* message) except -1:
        """Broadcast to connections that do not compress, and to those that do: compressed once, if that is worth it.

        All that may fail comes before any connection has the message. So an exception means that none gets it."""
        cdef Fanout plain = self.fanout, compressing = self.compressing
        cdef Turn turn = plain.turn
        cdef tuple excluded = <tuple>message.excluded
        cdef list circles = None, others = None
        cdef object key = <object>message.key
        cdef bytes payload = None
        cdef Block block, other = None
        cdef Value value = None, second = None
        begin_section(turn)
        try:
            if <object>message.to is not None:
                circles = plain.circles.found(<tuple>message.to)
                others = None if compressing is None else compressing.circles.found(<tuple>message.to)
            if compressing is not None and not (compressing.members if circles is None else others):
                compressing = None
            if key is not None and circles is None:
                value = plain.supersede(key)
                if compressing is not None:
                    second = compressing.supersede(key)
            if compressing is not None and message.compress:
                payload = self.compression.compress_for_all(message.data, message.size)
            block = plain.prepare(circles, message.size, excluded, key, value)
            if compressing is not None:
                other = compressing.prepare(
                    others, message.size if payload is None else len(payload), excluded, key, second)
            if block is not None:
                plain.publish(
                    circles, block, message.opcode, message.data, message.size, excluded, key, value)
            if payload is not None:
                compressing.publish(others, other, message.opcode | RSV1, PyBytes_AS_STRING(payload), len(payload),
                                    excluded, key, second)
            elif other is not None:
                compressing.publish(others, other, message.opcode, message.data, message.size, excluded, key,
                                    second)
            self.tally.broadcasts += 1
        finally:
            end_section(turn)
        return 0


cdef void describe(
        Message* message, object key, bint compress, tuple to, tuple excluded, bint local) noexcept:
    """Fill in all of a message but its payload. The caller keeps what it refers to."""
    message.key = <PyObject*>key
    message.compress = compress
    message.to = <PyObject*>to
    message.excluded = <PyObject*>excluded
    message.local = local


cdef Outbox find_in(Fanout fanout, object number):
    return None if fanout is None else fanout.find(number)


cdef Py_ssize_t size_in(Fanout fanout, object address) except -1:
    """Count the members that a room has in a fan-out."""
    cdef Circle circle = None if fanout is None else fanout.circles.find(address)
    return 0 if circle is None else circle.count


cdef list members_in(Fanout fanout, object address):
    return [] if fanout is None else fanout.circles.members(address)


cdef dict rooms_of(Fanout fanout):
    return {} if fanout is None else fanout.circles.rooms


cdef dict users_of(Fanout fanout):
    return {} if fanout is None else fanout.circles.users


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
