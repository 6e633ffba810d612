"""The sending side of one connection: what waits to be sent, in the order of the calls.

An `Outbox` is a queue with a bound on it (`Backlog`) and the way out (`Sender`). `connection.py` makes of it the
connection that handlers get. It does not read, and does not know how a connection opens or ends: its `Owner` does.

- Within a turn of the loop, small frames are written one behind the other into the turn's arena. They are one piece,
  however many.
- A large `str` or `bytes` is not copied: its own memory is a piece.
- Broadcasts are not here. They stand in the `Feed`. All of them are pulled in (`catch_up`) before anything of this
  connection's own is queued, so that the order of the calls is kept.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from crest.cpython cimport PyObject_GC_IsTracked, PyObject_GC_Track, PyObject_GC_UnTrack, PyThreadState_Get
from crest.io.loop.poller cimport Pollable
from crest.io.loop.turn cimport Block, Turn, begin_section, end_section, must_wait
from crest.io.out.arguments cimport as_bytes, as_text, utf8_of
from crest.io.out.backlog cimport ACCEPTING, DETACHED, DROP_NEWEST, LATEST, UNATTACHED, Feed, Owner
from crest.io.out.sender cimport Sender
from crest.io.out.tally cimport Tally
from crest.io.syscalls cimport crest_piece
from crest.wire.frames cimport MAX_SERVER_HEADER, write_header
from crest.wire.rfc6455 cimport CLOSE_NO_STATUS_RECEIVED, OPCODE_BINARY, OPCODE_CLOSE, OPCODE_PING, OPCODE_TEXT, RSV1

from crest.io.out.arguments import check_close

cdef size_t COPIED = 8192           # bytes: a payload up to this is copied, a larger one is referenced
cdef size_t FLUSHED_AT = 1 << 16    # bytes: so many that wait are sent without waiting for the turn's end
cdef uint64_t made = 0              # outboxes, by this process


cdef class Outbox(Sender):
    """The sending side of one connection."""

    def __cinit__(self):
        global made
        made += 1
        self._number = made
        self.fd = -1
        self.state = UNATTACHED
        self.pong_delay = -1
        PyObject_GC_UnTrack(self)

    cdef int collectable(self) except -1:
        """Have the garbage collector visit this from now on.

        It need not before: what crest itself hangs on a connection ends with it. The visits to 15,000 connections would
        stop the loop for milliseconds (decision 0012)."""
        if not PyObject_GC_IsTracked(self):
            PyObject_GC_Track(self)
        return 0

    def _may_refer_to_itself(self):
        """Prepare for a reference cycle: the application hangs something of its own on the connection."""
        self.collectable()

    # ---- Calls of the application --------------------------------------------------------------------------------

    @cython.binding(False)
    def send(self, text not None, /, *, key=None, bint compress=True):
        """Send one text message (RFC 6455 section 5.6). Never blocks; may be called from any thread.

        Args:
            text: `str`.
            key: What it is the newest state of: with `on_backlog="latest"` it takes the place of an older one that was
                sent to this connection with the same key, if the client does not keep up. None: nothing takes its
                place.
            compress: False sends it as it is, on a connection that compresses too (`compression`).

        Returns:
            True when the message was accepted; False when the connection is not open any more, or the backlog policy
            (`max_backlog`, `on_backlog`) refused it.

        Raises:
            TypeError: for anything but `str`; bytes go through `send_binary`. Or `key` is not hashable.
            UnicodeEncodeError: for a lone surrogate, which UTF-8 can not carry.
        """
        cdef Py_ssize_t size
        cdef str exact = as_text("send", text)
        cdef const char* data = utf8_of(exact, &size)
        if key is not None:
            return self.push_keyed(OPCODE_TEXT, data, size, exact, compress, key)
        return self.push_message(OPCODE_TEXT, data, size, exact, compress)

    @cython.binding(False)
    def send_binary(self, data not None, /, *, key=None, bint compress=True):
        """Send one binary message (RFC 6455 section 5.6). Never blocks; may be called from any thread.

        Args:
            data: any bytes-like object; a mutable one may be changed as soon as the call returns.
            key, compress: see `send`.

        Returns:
            See `send`.

        Raises:
            TypeError: for anything that is not bytes-like; text goes through `send`. Or `key` is not hashable.
        """
        cdef bytes copy = as_bytes("send", data)
        if key is not None:
            return self.push_keyed(OPCODE_BINARY, PyBytes_AS_STRING(copy), len(copy), copy, compress, key)
        return self.push_message(OPCODE_BINARY, PyBytes_AS_STRING(copy), len(copy), copy, compress)

    def ping(self):
        """Send a ping (RFC 6455 section 5.5.2); the answer sets `latency`. May be called from any thread.

        Returns:
            True when the ping was accepted; False when the connection is not open any more, or the backlog policy
            (`max_backlog`, `on_backlog`) refused it.
        """
        if self.state != ACCEPTING:
            return False
        if must_wait(self.feed.turn):
            return self.feed.turn.call_later(self._ping_posted)
        return self.push_ping()

    def _ping_posted(self):
        if self.state == ACCEPTING:
            self.push_ping()

    def close(self, code=1000, reason=""):
        """Start the closing handshake (RFC 6455 section 7.1.2). May be called from any thread.

        What was sent before still goes out. A second call, or one after the peer has started to close, does nothing.

        Args:
            code: 1000-1003, 1007-1014 or 3000-4999.
            reason: `str` of at most 123 bytes of UTF-8, for the peer.

        Raises:
            TypeError, ValueError: for a code or a reason that a close frame can not carry.
        """
        check_close(code, reason)
        reason = str.__str__(reason)  # not a subclass
        if self.state != ACCEPTING:
            return
        if must_wait(self.feed.turn):
            self.feed.turn.call_later(self._close_posted, int(code), reason)
        else:
            self.owner.close(code, reason)

    def _close_posted(self, int code, str reason):
        if self.state == ACCEPTING:
            self.owner.close(code, reason)

    def is_open(self):
        """True if messages can be sent: from `on_connect` until closing starts."""
        return self.state == ACCEPTING

    @property
    def buffered(self):
        """Count the bytes that were sent and that the kernel has not taken yet. Messages that other threads sent count
        with their payload's bytes, until the loop has got to them."""
        cdef uint64_t unseen = 0
        if self.state == ACCEPTING:
            unseen = self.feed.unseen(self) + self.feed.posted + (self.feed.lag(self) if self.lagging else 0)
            unseen += self.posted
        return self.waiting() + unseen

    @property
    def compression(self):
        """Return the compression that was agreed in the opening handshake: the value of the response's
        Sec-WebSocket-Extensions header (RFC 7692 section 7.1). None: messages are not compressed."""
        return None if self.deflation is None else self.deflation.agreed

    @property
    def latency(self):
        """Return the seconds from the last answered ping to its pong; None before the first."""
        return None if self.pong_delay < 0 else self.pong_delay

    # ---- Messages ------------------------------------------------------------------------------------------------

    cdef bint push_message(
            self, uint8_t opcode, const char* data, size_t size, object owner, bint compress) except -1:
        if self.state != ACCEPTING:
            return False
        # must_wait(), without a reference to the turn
        if PyThreadState_Get() != self.feed.turn.thread or self.feed.turn.sections:
            return self.post(opcode, size, owner, compress, None)
        return self.push_now(opcode, data, size, owner, compress)

    cdef bint push_keyed(self, uint8_t opcode, const char* data, size_t size, object owner, bint compress,
                         object key) except -1:
        """Queue a message with a key; False when it was refused."""
        hash(key)  # TypeError if it has none, with any policy
        if self.state != ACCEPTING:
            return False
        if must_wait(self.feed.turn):
            return self.post(opcode, size, owner, compress, key)
        if self.feed.policy == LATEST and (self.blocked or self.lagging):
            return self.keep(opcode, data, size, compress, key)
        return self.push_now(opcode, data, size, owner, compress)

    cdef bint keep(self, uint8_t opcode, const char* data, size_t size, bint compress, object key) except -1:
        """Have a message kept until the peer has taken what it was sent before; False when it was refused.

        It is compressed without context, as others may be sent before it."""
        cdef Turn turn = self.feed.turn
        cdef bytes payload = None
        cdef Block frame
        begin_section(turn)
        try:
            if self.deflation is not None and compress:
                payload = self.deflation.compress_alone(data, size)
            if payload is not None:
                opcode |= RSV1
                data = PyBytes_AS_STRING(payload)
                size = len(payload)
            frame = Block(size + MAX_SERVER_HEADER, turn.budget)
            frame.used = write_header(<uint8_t*>frame.data, opcode, size)
            memcpy(frame.data + frame.used, data, size)
            frame.used += size
            if self.seen < self.feed.end:
                self.feed.catch_up(self)  # may be too much for the backlog, and end the connection
            if self.state != ACCEPTING:
                self.lose(1)
                return False
            if not self.feed.keep(self, None, key, frame):
                return False
            self.feed.tally.sent += 1
            self.feed.tally.sent_bytes += frame.used
            return True
        finally:
            end_section(turn)

    cdef inline bint push_now(
            self, uint8_t opcode, const char* data, size_t size, object owner, bint compress) except -1:
        if self.deflation is not None and compress:
            return self.push_compressed(opcode, data, size, owner)
        return self.extend(opcode, data, size) or self.push_counted(opcode, data, size, owner)

    cdef bint push_counted(self, uint8_t opcode, const char* data, size_t size, object owner) except -1:
        """Queue the frame of a message; False when it was refused."""
        cdef bint pushed = self.push_frame(opcode, data, size, owner)
        if pushed:
            self.feed.tally.sent += 1
        return pushed

    cdef bint push_compressed(self, uint8_t opcode, const char* data, size_t size, object owner) except -1:
        """Queue a message, compressed if that is worth it; False when it was refused."""
        cdef Turn turn = self.feed.turn
        cdef bytes payload
        cdef bint pushed = False
        begin_section(turn)  # messages must be queued in the order in which they are compressed
        try:
            payload = self.deflation.compress(data, size)
            if payload is not None:
                owner = payload
                opcode |= RSV1
                data = PyBytes_AS_STRING(payload)
                size = len(payload)
            pushed = self.extend(opcode, data, size) or self.push_counted(opcode, data, size, owner)
        finally:
            if not pushed and self.deflation is not None:
                self.deflation.forget()
            end_section(turn)
        return pushed

    cdef bint post(self, uint8_t opcode, size_t size, object owner, bint compress, object key) except -1:
        """Have the loop send soon: the call comes from another thread, or within a section."""
        cdef bint called
        cdef size_t before = self.posted
        if self.feed.policy == DROP_NEWEST:
            before += self.waiting()
        if self.blocked and before + size > self.limit() and self.drops():
            self.lose(1)
            return False
        self.posted += size  # before the loop's thread can take it off
        try:
            called = self.feed.turn.call_later(self._push_posted, opcode, owner, size, compress, key)
        except BaseException:
            self.posted -= size
            raise
        if not called:
            self.posted -= size
        return called

    def _push_posted(self, int opcode, owner, size_t size, bint compress, key):
        cdef Py_ssize_t length = size
        cdef const char* data
        self.posted -= size
        if self.overflowed:
            self.overflow(1)
        elif self.state == ACCEPTING:
            data = utf8_of(owner, &length) if opcode == OPCODE_TEXT else PyBytes_AS_STRING(owner)
            if key is None:
                self.push_now(<uint8_t>opcode, data, size, owner, compress)
            else:
                self.push_keyed(<uint8_t>opcode, data, size, owner, compress, key)

    cdef bint push_frame(self, uint8_t opcode, const char* data, size_t size, object owner) except -1:
        """Queue a frame; False when it was refused. `owner` is the immutable object whose memory `data` is. It may be
        None if `size` is at most COPIED."""
        cdef Turn turn = self.feed.turn
        cdef char header[MAX_SERVER_HEADER]
        cdef size_t header_size
        if self.state != ACCEPTING:
            return False
        begin_section(turn)
        try:
            if self.seen < self.feed.end:
                self.feed.catch_up(self)  # may be too much for the backlog, and end the connection
            if self.state != ACCEPTING:
                self.lose(1)
                return False
            if self.blocked and not self.has_room(size + MAX_SERVER_HEADER):
                self.overflow(1)
                return False
            header_size = write_header(<uint8_t*>header, opcode, size)
            self.feed.tally.sent_bytes += header_size + size
            if size <= COPIED:
                self.append(header, header_size, data, size)
            else:
                if self.blocked:
                    owner = self.budget().keep(owner)
                self.append(header, header_size, NULL, 0)
                self.push(owner, data, size)  # for which append() has left room
            if self.queued >= FLUSHED_AT and not self.blocked:
                self.flush()
            return True
        finally:
            end_section(turn)

    cdef inline bint extend(self, uint8_t opcode, const char* data, size_t size) noexcept:
        """Write a message's short frame right behind one that leaves with this turn, as a short cut. False: this is
        another case, which is left to `push_frame`.

        It halves the instructions of a `send`, which `make bench-guard` counts."""
        # Borrowed, so that no reference is counted.
        cdef PyObject* arena = <PyObject*>self.feed.turn.arena
        cdef PyObject* tally = <PyObject*>self.feed.tally
        cdef crest_piece* last
        cdef char* target = (<Block>arena).data + (<Block>arena).used
        if not self.count or size >= 126 or self.blocked or self.seen < self.feed.end \
                or self.queued >= FLUSHED_AT - 128 or (<Block>arena).room - (<Block>arena).used < 128:
            return False
        last = self.pieces + self.first + self.count - 1
        if last.owner != NULL or last.data + last.size != target:
            return False
        size += write_header(<uint8_t*>target, opcode, size)
        memcpy(target + 2, data, size - 2)
        (<Block>arena).used += size
        last.size += size
        self.queued += size
        (<Tally>tally).sent += 1
        (<Tally>tally).sent_bytes += size
        return True

    cdef int append(self, const char* header, size_t header_size, const char* data, size_t size) except -1:
        """Queue a copy of header and payload. It lies in the turn's arena if it may leave by the end of this turn.

        Afterwards there is room for one piece more. MemoryError: nothing is queued."""
        cdef Turn turn = self.feed.turn
        cdef char* target
        if not self.blocked:
            target = turn.reserve(header_size + size)
            if not self.blocked:  # reserve() may have flushed
                turn.add(self)
                self.make_room(2)
                memcpy(target, header, header_size)
                if size:
                    memcpy(target + header_size, data, size)
                turn.arena.used += header_size + size
                return self.push(None, target, header_size + size)
        self.make_room(2)
        return self.push_copy(header, header_size, data, size)

    cdef int push_close(self, int code, bytes reason) except -1:
        """Queue a close frame, the last frame of all; CLOSE_NO_STATUS_RECEIVED stands for one without a code."""
        cdef Turn turn = self.feed.turn
        cdef uint8_t frame[MAX_SERVER_HEADER + 2]
        begin_section(turn)
        try:
            self.stop()
            if code == CLOSE_NO_STATUS_RECEIVED:
                write_header(frame, OPCODE_CLOSE, 0)
                self.append(<char*>frame, 2, NULL, 0)
                self.feed.tally.sent_bytes += 2
            else:
                write_header(frame, OPCODE_CLOSE, 2 + len(reason))
                frame[2] = <uint8_t>(code >> 8)
                frame[3] = <uint8_t>code
                self.append(<char*>frame, 4, PyBytes_AS_STRING(reason), len(reason))
                self.feed.tally.sent_bytes += 4 + <size_t>len(reason)
        finally:
            end_section(turn)
        return 0

    cdef bint push_ping(self) except -1:
        cdef char payload[4]
        self.ping_serial += 1
        self.pinged = microseconds(self.feed.turn) or 1
        memcpy(payload, &self.ping_serial, 4)
        return self.push_frame(OPCODE_PING, payload, 4, None)

    cdef bint pong(self, bytes payload) except -1:
        """True if this pong answers the last ping, for the first time; then it sets `latency`. An answer to an older
        ping, to one that was answered before, or to none says nothing."""
        if not self.pinged or len(payload) != 4 or memcmp(PyBytes_AS_STRING(payload), &self.ping_serial, 4):
            return False
        self.pong_delay = <uint32_t>(microseconds(self.feed.turn) - self.pinged) * 1e-6
        self.pinged = 0
        return True

    # ---- Life ----------------------------------------------------------------------------------------------------

    cdef int attach(self, Owner owner, Feed feed, object transport, bytes response) except -1:
        """Open the connection: what is pushed goes to this transport, behind the response to the request."""
        cdef Turn turn = feed.turn
        self.owner = owner
        self.feed = feed
        self.transport = transport
        begin_section(turn)
        try:
            if transport.get_write_buffer_size():
                self.pause()  # the transport may have called pause_writing while the opening was there
                self.limit_transport()
            self.append(PyBytes_AS_STRING(response), len(response), NULL, 0)
            self.begun = self.queued
            feed.join(self)
            self.state = ACCEPTING
            if isinstance(transport, Pollable) and not (<Pollable>transport).encrypts:
                self.fd = (<Pollable>transport).fd
        finally:
            end_section(turn)
        return 0

    cdef int detach(self) except -1:
        """Let go of the transport, which is gone, and of all that waits."""
        self.fd = -1  # whatever goes wrong below: another connection may have that descriptor soon
        self.owner = None
        self.stop()
        self.state = DETACHED
        self.transport = None
        if self.blocked:
            self.forget_handed()
            self.budget().caught_up(self)
        if self.deflation is not None:
            self.deflation.end()
        return self.discard()


cdef inline uint32_t microseconds(Turn turn) except? 0:
    """Return the time by the loop's clock, modulo 2**32."""
    return <uint32_t><uint64_t>(turn.clock.now() * 1e6)
