"""One connection between asyncio and the wire: transport callbacks to frames to events.

`Protocol` owns the life of one TCP connection. Its bytes go to an `opening` (of the floor above) until that calls
`upgrade`. From then on it feeds the frame reader, answers control frames, and delivers messages to the handlers. It
knows nothing of routes, HTTP or users.

It is built of parts that know nothing of each other nor of it. It asks them, and acts on the answer:

| part | is asked |
|---|---|
| phase.pyx | what a step leads to |
| heartbeat.pyx | for the verdict on a peer that is silent |
| signs.pyx | what the kernel knows of the peer |
| pace.pyx | how long a client over its rate is not to be read |
| inbox.pyx | to keep events, and to await an async handler; it tells its `Host` when there is room |
| calls.pyx | to call a handler |

What is done with the answers is one class in five files: how reading pauses (reading.pyx), how the connection ends
(closing.pyx), what is awaited for how long (patience.pyx), how writing pauses (writing.pyx), and what is read (here).
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t

from asyncio import BufferedProtocol

from crest.cpython cimport PyBUF_WRITE, PyByteArray_AS_STRING, PyMemoryView_FromMemory
from crest.io.life.calls cimport BINARY, CONNECT, ERROR, MESSAGE
from crest.io.life.heartbeat cimport hear
from crest.io.life.inbox cimport Inbox, is_busy, is_full
from crest.io.life.intake cimport ANSWERS, PARTIAL, REQUESTS, UNREAD
from crest.io.life.pace cimport is_over_rate
from crest.io.life.patience cimport OPENING_LINGER
from crest.io.life.phase cimport ENDED, LOST, TRANSPORT_LOST, UPGRADED, is_read
from crest.io.life.watch cimport begin_service, end_service
from crest.io.life.writing cimport Writing
from crest.io.loop.clock cimport TRIES, milliseconds
from crest.io.loop.turn cimport Turn
from crest.io.out.fanout cimport Fanout
from crest.io.out.hub cimport Hub
from crest.io.out.outbox cimport Outbox
from crest.wire.frames cimport DROPPED, NEED_DATA, FrameReader, held
from crest.wire.rfc6455 cimport (
    CLOSE_ABNORMAL_CLOSURE,
    CLOSE_MESSAGE_TOO_BIG,
    CLOSE_POLICY_VIOLATION,
    CLOSE_TRY_AGAIN_LATER,
    CLOSE_UNSUPPORTED_DATA,
    OPCODE_BINARY,
    OPCODE_CLOSE,
    OPCODE_PING,
    OPCODE_PONG,
    OPCODE_TEXT,
)

from crest.io.life.calls import ErrorText

# Bytes: if so much of a frame's payload is to come, it is received into the message instead of the shared buffer.
cdef size_t DIRECT = 1 << 18


cdef class Protocol(Writing):
    """The asyncio protocol of one connection; `ServerProtocol` is what a transport gets.

    Args:
        turn: of the loop that the connection belongs to.
        site: what the connection reports to, and asks for its opening; protocol.pyi has the interface of both.
    """

    def __cinit__(self, Turn turn not None, site):
        self.turn = turn
        self.site = site
        self.slot = NO_SLOT

    # ---- asyncio's callbacks -------------------------------------------------------------------------------------

    def connection_made(self, transport):
        self.transport = transport
        try:
            self.opening = self.site.opened(self)
        except BaseException:
            transport.abort()  # loops differ in whether they do
            raise

    def get_buffer(self, Py_ssize_t sizehint):
        cdef char* where
        cdef size_t room
        self.buffer(&where, &room)
        return self.view(where, room)  # over TLS asyncio writes to slices of it, which of a bytearray would be copies

    cdef object view(self, char* where, size_t room):
        """Return a memoryview of what `buffer` found, or of the end of it."""
        if room == <size_t>len(self.turn.read_buffer) and not self.into_body:
            return self.turn.read_view
        return PyMemoryView_FromMemory(where, room, PyBUF_WRITE)

    cdef int buffer(self, char** where, size_t* room) except -1:
        """Find room for the bytes that come next: in the message that they belong to, or in the shared buffer.

        `received` must then be called before any other connection reads."""
        self.into_body = False
        if self.reader is not None and self.unread is None and is_read(self.phase):
            try:
                where[0] = <char*>self.reader.direct(DIRECT, room)
            except MemoryError:
                self.fail(CLOSE_MESSAGE_TOO_BIG, "there is no memory for the message")
            else:
                if where[0] != NULL:
                    self.into_body = True
                    return 0
        where[0] = PyByteArray_AS_STRING(self.turn.read_buffer)
        room[0] = len(self.turn.read_buffer)
        return 0

    def buffer_updated(self, Py_ssize_t size):
        self.received(size)

    cdef int received(self, size_t size) except -1:
        """Read `size` bytes, which have come to where `buffer` said."""
        cdef Hub hub = self.hub
        cdef uint32_t since = begin_service(hub, self.turn.clock)
        hear(&self.pulse, since)
        self.take(size)
        return end_service(hub, self.turn.clock, self.connection, since)

    cdef int take(self, size_t size) except -1:
        cdef char* data = PyByteArray_AS_STRING(self.turn.read_buffer)
        cdef FrameReader reader = self.reader
        if not is_read(self.phase):
            return 0
        if reader is None:
            if self.opening is not None:
                self.opening.data_received(PyBytes_FromStringAndSize(data, size))
            return 0
        self.hub.tally.received_bytes += size
        if reader.meter is not None and not self.paused:  # if paused: see Reading.excuse
            reader.meter.refill(self.pulse.heard)
        if self.into_body:
            reader.wrote(size)
            return self.read()
        if self.unread is None:
            reader.attach(<uint8_t*>data, size)
        else:
            # A transport that was told to pause may have had this underway.
            self.unread = PyBytes_FromStringAndSize(<char*>reader.at, reader.end - reader.at) + data[:size]
            reader.attach(<uint8_t*>PyBytes_AS_STRING(self.unread), len(self.unread))
        return self.read()

    def eof_received(self):
        """Hear that the peer has closed its half. True keeps the transport open, for what the peer has still to get."""
        cdef uint32_t since
        self.at_end = True
        if self.opening is not None:
            return self.opening.eof_received() and self.transport.can_write_eof()
        if self.connection is None:
            return False
        self.connection.stop()
        since = begin_service(self.hub, self.turn.clock)
        self.read()  # nothing more can come
        end_service(self.hub, self.turn.clock, self.connection, since)
        if not self.connection.count and not self.connection.blocked:
            return False
        self.linger()
        return self.transport.can_write_eof()  # False for the loop's TLS: it has no halves, and asyncio's warns of True

    def connection_lost(self, error):
        self.step(TRANSPORT_LOST)
        self.clear_deadline()
        self.end_vigil()
        self.transport = None
        try:
            if self.opening is not None:
                opening, self.opening = self.opening, None
                opening.connection_lost()
            self.keep(REQUESTS, 0)
            self.keep(ANSWERS, 0)
            if self.connection is not None:
                self.connection.detach()
                self.read_rest()
        finally:
            if is_busy(self.inbox):
                self.set_deadline(self.hub.close_timeout)
                self.site.left(self)
            else:
                self.handled()

    cdef int read_rest(self) except -1:
        """Read what came before the end. on_close must be delivered, so without memory this is tried again."""
        cdef int tries
        cdef uint32_t since = begin_service(self.hub, self.turn.clock)
        for tries in range(TRIES, 0, -1):
            try:
                self.read()
                break
            except MemoryError:
                if tries == 1:
                    raise
        return end_service(self.hub, self.turn.clock, self.connection, since)

    cdef int loop_closed(self) except -1:
        """Let go of everything, in place of connection_lost: the loop was closed before that could be called. No
        handler runs any more, and the descriptor is about to be closed."""
        self.step(TRANSPORT_LOST)
        self.clear_deadline()
        self.end_vigil()
        self.transport = self.opening = None
        if self.inbox is not None:
            self.inbox.clear()
            self.inbox = None
        self.site = None  # it refers back to this, and the garbage collector may not visit this
        if self.connection is not None:
            self.connection.detach()
        return 0

    # ---- The opening hands over ----------------------------------------------------------------------------------

    def upgrade(self, Outbox connection not None, Hub hub not None, bytes response not None, bytes rest not None,
                agreed=None):
        """Become a WebSocket: the opening handshake is accepted.

        Args:
            connection: the connection that handlers get.
            hub: of the connection's server.
            response: to be sent first.
            rest: bytes that came behind the request.
            agreed: the `Agreement` on compression, or None.
        """
        cdef Fanout fanout = hub.admit(connection, agreed)
        cdef uint32_t since = begin_service(hub, self.turn.clock)
        cdef FrameReader reader = hub.new_reader(agreed, since)
        self.turn.corked = connection  # until read() has come to its end
        try:
            try:
                connection.attach(self, fanout, self.transport, response)
            except BaseException:
                connection.detach()
                raise
            self.opening = None
            self.keep(REQUESTS, 0)
            self.clear_deadline()
            self.hub = hub
            self.connection = connection
            self.reader = reader
            self.step(UPGRADED)
            hub.tally.opened += 1
            self.deliver(CONNECT, None, None)
            self.pulse.heard = self.pulse.spoke = milliseconds(self.turn.clock)
            self.await_next(self.pulse.heard)
            if rest:
                hub.tally.received_bytes += <size_t>len(rest)
                self.unread = rest
                reader.attach(<uint8_t*>PyBytes_AS_STRING(rest), len(rest))
        except BaseException:
            self.uncork()
            raise
        self.read()
        end_service(hub, self.turn.clock, connection, since)

    # ---- Reading -------------------------------------------------------------------------------------------------

    cdef int read(self) except -1:
        """Read the frames in the chunk. What handlers send to this connection meanwhile leaves at the end, in one
        write."""
        cdef FrameReader reader = self.reader
        self.turn.corked = self.connection
        try:
            self.read_frames()
        except MemoryError:
            reader.stop()
            self.fail(CLOSE_MESSAGE_TOO_BIG, "there is no memory for the message")
        finally:
            self.uncork()
        if self.inbox is not None or self.unread is not None or reader.body != NULL:
            self.count()
        return 0

    cdef inline int uncork(self) except -1:
        """Send what was queued since the turn was corked."""
        cdef Turn turn = self.turn
        cdef Outbox connection = <Outbox>turn.corked
        turn.corked = None
        if connection.count or connection.tell_drained:
            connection.flush()
        if not turn.due:
            turn.arena.used = 0
        return 0

    cdef int count(self) except -1:
        """Count what came and is not handled: bytes behind too many events, and an incomplete message."""
        if not is_read(self.phase):
            self.reader.stop()
        self.keep(UNREAD, 0 if self.unread is None else len(self.unread))
        self.keep(PARTIAL, held(self.reader))
        return 0

    cdef int read_frames(self) except -1:
        cdef FrameReader reader = self.reader
        cdef int event
        while is_read(self.phase):
            if is_full(self.inbox) and not self.deaf:
                return self.hold()
            if not reader.in_payload and is_over_rate(reader) and self.must_wait():
                return 0
            payload = reader.next()
            event = reader.event
            if self.deaf and (event == OPCODE_TEXT or event == OPCODE_BINARY):
                continue
            if event == OPCODE_TEXT or event == OPCODE_BINARY:
                self.pulse.spoke = self.pulse.heard
                self.hub.tally.received += 1
                if event == OPCODE_TEXT and self.hub.on_message is not None:
                    self.deliver(MESSAGE, payload, None)
                elif event == OPCODE_BINARY and self.hub.on_binary is not None:
                    self.deliver(BINARY, payload, None)
                else:
                    self.unwanted("text" if event == OPCODE_TEXT else "binary")
            elif event == NEED_DATA:
                return self.chunk_read()
            elif event == OPCODE_PING:
                self.connection.push_frame(OPCODE_PONG, PyBytes_AS_STRING(payload), len(<bytes>payload), payload)
            elif event == OPCODE_PONG:
                if self.connection.pong(payload):
                    self.await_next(self.pulse.heard)
                elif reader.meter is not None and not reader.meter.takes_control(1, 0):
                    self.fail(CLOSE_POLICY_VIOLATION, reader.exceed())  # it answers no ping, and counts as a message
            elif event == OPCODE_CLOSE:
                self.peer_closed(reader.close_code, payload)
            elif event == DROPPED:
                self.pulse.spoke = self.pulse.heard
                self.connection.discarded += 1
                self.hub.tally.discarded += 1
            else:
                self.fail(reader.close_code, payload)
        return 0

    cdef int unwanted(self, str kind) except -1:
        """Fail the connection if messages of the other kind have a handler; else a message is as good as handled."""
        if self.hub.on_message is not None or self.hub.on_binary is not None:
            other = "on_message" if self.hub.on_message is not None else "on_binary"
            self.fail(CLOSE_UNSUPPORTED_DATA, f"a {kind} message, but only {other} is registered")
        return 0

    cdef int chunk_read(self) except -1:
        """Go on reading, as the chunk is used up, or end where nothing more can come."""
        self.unread = None
        if self.reader.body != NULL:
            self.pulse.spoke = self.pulse.heard  # a part of a message has come
        if self.phase == LOST or self.at_end:
            return self.finish(CLOSE_ABNORMAL_CLOSURE, "")
        if not (is_over_rate(self.reader) and self.must_wait()) and self.unpause():
            hear(&self.pulse, milliseconds(self.turn.clock))  # the peer was not asked for an answer meanwhile
        return 0

    cdef int has_room(self) except -1:
        if (self.paused or self.phase == LOST or self.at_end) and is_read(self.phase) \
                and self.turn.corked is not self.connection:
            self.read()  # if it is corked, read() runs already: an eager task has ended within it
        return 0

    cdef int overhead(self, size_t size) except -1:
        """Count `size` bytes of TLS records that had nothing for the connection, such as KeyUpdates (RFC 8446 section
        4.6.3)."""
        cdef FrameReader reader = self.reader
        if self.opening is not None:
            self.opening.overhead(size)
            return 0
        if reader is None or reader.meter is None or not is_read(self.phase):
            return 0
        reader.meter.refill(milliseconds(self.turn.clock))
        if not reader.meter.takes_control(0, size):
            return self.fail(CLOSE_POLICY_VIOLATION, reader.exceed())
        if is_over_rate(reader):
            self.must_wait()
        return 0

    # ---- What the floor above asks for ---------------------------------------------------------------------------

    cdef int give_up(self, str reason) except -1:
        cdef Inbox inbox = self.inbox
        if self.connection is None:
            if self.opening is not None:
                self.opening.shed(reason)
            else:
                self.abort()
            return 0
        if is_read(self.phase):
            self.fail_soon(CLOSE_TRY_AGAIN_LATER, reason)
        self.deaf = inbox.deaf = True
        inbox.drop_messages(None if is_read(self.phase) else (ERROR, ErrorText(reason), None))
        self.reader.stop()
        self.unread = None
        return self.count()

    def reopen(self, opening not None):
        """Have another opening read the connection from now on. The one before must not have ended."""
        if self.opening is None:
            raise RuntimeError("the opening of this connection is over")
        self.opening = opening

    def close_opening(self):
        """Let go of the opening: it has sent its last response, and no upgrade will follow."""
        self.opening = None
        self.step(ENDED)
        self.holds(0)
        self.is_taking()
        self.set_deadline(OPENING_LINGER)
        self.drained()

    def stop(self, int code, str reason):
        """Close: the server shuts down. Messages that wait or still come are handled, unlike after `close`: here the
        application has not asked to hear no more."""
        if self.connection is not None and self.start_closing(code, reason) and self.paused:
            self.call_soon(self._read_on)

    def end_now(self):
        """Cut the connection, and cancel the handler that runs: shutdown has waited long enough.

        on_close begins then, unless it had begun. Another call cancels that, too."""
        self.abort()
        self.abandon()


class ServerProtocol(Protocol, BufferedProtocol):
    """`Protocol` for asyncio's own loops, which look for a BufferedProtocol."""

    __slots__ = ()

    data_received = None  # uvloop looks for it on every connection, and a missing one costs 3,000 instructions
