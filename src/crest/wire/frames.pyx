"""Frames (RFC 6455 section 5): bytes to messages, message to bytes. Sans-I/O.

`FrameReader` is fed chunks of what the peer sent and yields messages, control frames, or the one failure that ends it.
How the stream was cut into chunks changes nothing, but which of two failures comes first (see meter.pyx). It owns what
is unfinished, and no other memory. It answers nothing: replying to a ping or a close frame, and closing after
a failure, is its caller's business.
What the peer does wrong is never a Python exception here: `fail` is the one place where it becomes a close code
(section 7.1.7) and a text that says what and where.

Only a MemoryError is one. Then the caller fails the connection: whatever this was in the middle of, no more is read.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

from crest.cpython cimport PyUnicode_DATA, PyUnicode_New
from crest.kernels.decoder cimport decode_text
from crest.kernels.mask cimport crest_mask_init, crest_unmask
from crest.kernels.utf8 cimport crest_utf8_finish
from crest.wire.assembler cimport Assembler, body_of
from crest.wire.deflate cimport Inflater
from crest.wire.meter cimport DROP, Meter, takes_message
from crest.wire.rfc6455 cimport (
    CLOSE_INVALID_PAYLOAD_DATA, CLOSE_POLICY_VIOLATION, MASK_BIT, MAX_CONTROL_PAYLOAD, OPCODE_BINARY, OPCODE_CLOSE,
    OPCODE_CONTINUATION, OPCODE_PONG,
)
from crest.wire.role cimport SERVER
from crest.wire.violations cimport (
    COMPRESSED_SIZE, FRAGMENTED_CONTROL, FRAGMENTS, INTERRUPTED_MESSAGE, LENGTH_ENCODING, LENGTH_SIGN, LONG_CONTROL,
    MASKED, MESSAGE_SIZE, NOTHING_TO_CONTINUE, RESERVED_OPCODE, UNMASKED, close_of, read_close,
)

crest_mask_init()

# Room that a message is given before its bytes have come: to announce any length costs the peer 14 bytes, so it must
# not cost the server much more. Past it, room doubles as bytes arrive.
cdef uint64_t UNPROVEN_ROOM = 1 << 20
cdef uint64_t LEAST_ROOM = 64


@cython.final
@cython.no_gc  # nothing that it holds can hold it
cdef class FrameReader(Assembler):
    """Reads the frames of one peer.

    Args:
        role: the side that reads, a `Role`. A server's peer must mask its frames, a client's must not (section 5.1).
        max_message_size: bytes that a message may have, over all its fragments, and inflated; more fails with 1009.
        max_fragments: frames that one message may come in, empty ones included; more fails with 1008.
        inflater: for compressed messages, if permessage-deflate was negotiated.
        meter: how much may come; more fails with 1008. The caller that gives the chunks tells it the time.
    """

    def __cinit__(self, *, int role=SERVER, max_message_size=1 << 20, max_fragments=1 << 17, Inflater inflater=None,
                  Meter meter=None):
        self.mask_bit = MASK_BIT if role == SERVER else 0
        self.inflater, self.meter = inflater, meter
        self.max_message_size = max_message_size
        self.max_fragments = max_fragments
        self.event = NEED_DATA

    def feed(self, const uint8_t[::1] data not None):
        """Read a chunk of any size and return what it completed, in order: a list of tuples.

        (Opcode.TEXT, str), (Opcode.BINARY, bytes), (Opcode.PING, bytes), (Opcode.PONG, bytes),
        (DROPPED, ""), (Opcode.CLOSE, close code, close reason) or (FAIL, close code, error text). After the last two
        comes nothing more.
        """
        found = []
        if data.shape[0]:
            self.attach(&data[0], data.shape[0])
        while True:
            payload = self.next()
            if self.event == NEED_DATA:
                return found
            if self.event == OPCODE_CLOSE or self.event == FAIL:
                found.append((self.event, self.close_code, payload))
            else:
                found.append((self.event, payload))

    def feed_direct(self, const uint8_t[::1] data not None, size_t least=1):
        """Read a chunk as `feed` does, but by `direct` and `wrote` where at least `least` payload bytes are awaited."""
        cdef size_t at = 0, size = data.shape[0], room = 0, n
        cdef uint8_t* where
        found = self.feed(data[:0])
        while at < size:
            where = self.direct(least, &room)
            if where == NULL:
                return found + self.feed(data[at:])
            n = min(room, size - at)
            memcpy(where, &data[at], n)
            self.wrote(n)
            at += n
            found = found + self.feed(data[:0])
        return found

    cdef void attach(self, const uint8_t* data, size_t size) noexcept:
        """Give the next chunk. The one before must have been read up to NEED_DATA."""
        self.at = data
        self.end = data + size

    cdef object next(self):
        """Read up to the next message, control frame or failure: set `event`, and return what came with it.

        TEXT: str. BINARY, PING, PONG: bytes. CLOSE: the close reason, with `close_code`. FAIL: the error text, with
        `close_code`. DROPPED: "". NEED_DATA: None; the chunk is used up and may be released.
        """
        cdef Py_ssize_t size
        cdef size_t part
        size = short_message(self)
        if size >= 0:
            return self.whole_message(self.at - size, size)
        while not self.done:
            if self.in_payload:
                if self.at == self.end and self.frame_left:
                    break
                payload = self.read_payload()
                if payload is not None:
                    return payload
                continue
            if self.at == self.end:
                break
            if self.head_size == 0:
                size = self.parse_header(self.at, self.end - self.at)
                if size == 0:
                    self.head_size = <uint8_t>(self.end - self.at)
                    memcpy(self.head, self.at, self.head_size)
                    break
                if size > 0:
                    self.at += size
            else:
                part = min(<size_t>(MAX_CLIENT_HEADER - self.head_size), <size_t>(self.end - self.at))
                memcpy(self.head + self.head_size, self.at, part)
                size = self.parse_header(self.head, self.head_size + part)
                if size == 0:
                    self.head_size += <uint8_t>part
                    break
                if size > 0:
                    self.at += size - self.head_size
                    self.head_size = 0
            self.frames += 1
            if size < 0:
                return self.refuse(size)
            if <uint64_t>(self.end - self.at) >= self.frame_size and self.message_opcode == OPCODE_CONTINUATION \
                    and self.fin and self.opcode <= OPCODE_BINARY and not self.compressed:
                self.at += self.frame_size
                return self.whole_message(self.at - self.frame_size, <Py_ssize_t>self.frame_size)
            if self.meter is not None and not self.meter.takes_frame(self.opcode, self.fin, self.frame_size) \
                    and not self.drops():
                return self.exceed()
            self.begin_payload()
        self.at = self.end = NULL
        self.event = NEED_DATA
        return None

    cdef uint8_t* direct(self, size_t least, size_t* room) except? NULL:
        """Find where the rest of a large frame may be written, masked as it came, without a copy; then call `wrote`.

        Returns NULL unless `least` bytes or more of payload that is not compressed are still to come. `room` gets how
        many fit.
        """
        if not self.in_payload or self.opcode > OPCODE_BINARY or self.frame_left < least \
                or self.compressed | self.done or is_skipped(self):
            return NULL
        if self.body_room - self.body_size < least:
            self.reserve(min(self.frame_left, max(self.body_room, UNPROVEN_ROOM)))
        room[0] = min(self.frame_left, self.body_room - self.body_size)
        return body_of(self) + self.body_size

    cdef void wrote(self, size_t size) noexcept:
        """Take `size` bytes that stand where `direct` said: the next call of `next` reads them."""
        self.at = body_of(self) + self.body_size
        self.end = self.at + size

    cdef void stop(self) noexcept:
        """Read nothing more, and hold nothing."""
        self.done = True
        self.in_payload = False
        self.drop_message()
        self.control = None

    # ---- Frame header (section 5.2) ------------------------------------------------------------------------------

    cdef Py_ssize_t parse_header(self, const uint8_t* head, size_t size) noexcept:
        """Read one header. Returns its bytes, 0 when it is not complete, or a `Violation`, which is negative.

        Each check is made as soon as its bytes are there, so that a bad frame is refused before the rest has come.
        """
        cdef uint8_t length
        cdef size_t at = 2
        cdef Py_ssize_t refusal
        cdef int i
        self.fin = head[0] >> 7
        self.opcode = head[0] & 0x0F
        if head[0] & 0x70:
            refusal = check_reserved(self, head[0] & 0x70)
            if refusal:
                return refusal
        if OPCODE_BINARY < self.opcode < OPCODE_CLOSE or self.opcode > OPCODE_PONG:
            return RESERVED_OPCODE
        if self.opcode >= OPCODE_CLOSE:
            if not self.fin:
                return FRAGMENTED_CONTROL
        elif self.opcode == OPCODE_CONTINUATION:
            if self.message_opcode == OPCODE_CONTINUATION:
                return NOTHING_TO_CONTINUE
        elif self.message_opcode != OPCODE_CONTINUATION:
            return INTERRUPTED_MESSAGE
        if size < 2:
            return 0
        if head[1] & MASK_BIT != self.mask_bit:
            return UNMASKED if self.mask_bit else MASKED
        length = head[1] & 0x7F
        self.frame_size = length
        if self.opcode >= OPCODE_CLOSE:
            if length > MAX_CONTROL_PAYLOAD:
                return LONG_CONTROL
        elif length >= 126:
            at = 4 if length == 126 else 10
            if size < at:
                return 0
            self.frame_size = 0
            for i in range(2, <int>at):
                self.frame_size = self.frame_size << 8 | head[i]
            if self.frame_size >> 63:
                return LENGTH_SIGN
            if self.frame_size < <uint64_t>(126 if length == 126 else 0x10000):
                return LENGTH_ENCODING
        if self.opcode <= OPCODE_BINARY:
            if is_too_long(self):
                return COMPRESSED_SIZE if self.compressed else MESSAGE_SIZE
            if self.opcode == OPCODE_CONTINUATION and self.fragments >= self.max_fragments:
                return FRAGMENTS
        if not self.mask_bit:
            return at
        if size < at + 4:
            return 0
        memcpy(self.key, head + at, 4)
        return at + 4

    cdef object refuse(self, Py_ssize_t violation):
        """Fail for what `parse_header` found."""
        cdef uint64_t size = self.body_size + self.frame_size
        if violation == COMPRESSED_SIZE:
            size = self.frame_size + (self.inflater.taken if self.opcode == OPCODE_CONTINUATION else 0)
        self.done = True  # also where there is no memory for the text
        close_code, error = close_of(violation, {
            "opcode": self.opcode, "length": self.frame_size, "size": size,
            "max_message_size": self.max_message_size, "max_fragments": self.max_fragments})
        return self.fail(close_code, error)

    # ---- Payload -------------------------------------------------------------------------------------------------

    cdef inline object whole_message(self, const uint8_t* payload, Py_ssize_t size):
        """Read an unfragmented message that lies in the chunk as a whole, the common case: one pass, no state."""
        self.event = self.opcode
        if self.meter is not None and not takes_message(self.meter, size):
            return self.end_dropped() if self.drops() else self.exceed()
        if self.opcode == OPCODE_BINARY:
            data = PyBytes_FromStringAndSize(NULL, size)
            crest_unmask(<uint8_t*>PyBytes_AS_STRING(data), payload, size, self.key, 0)
            return data
        if size == 0:
            return ""
        text = PyUnicode_New(size, 127)
        if crest_unmask(<uint8_t*>PyUnicode_DATA(text), payload, size, self.key, 0) < 0x80:
            return text
        return self.decode(<uint8_t*>PyUnicode_DATA(text), size)

    cdef int begin_payload(self) except -1:
        """Begin the payload of a frame that needs more than `whole_message`: its header has been read."""
        self.frame_left = self.frame_size
        if self.opcode >= OPCODE_CLOSE:
            self.done = True  # in case that there is no memory
            self.control = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>self.frame_size)
            self.done = False
            self.in_payload = True
            return 0
        self.in_payload = True
        if self.opcode != OPCODE_CONTINUATION:
            self.begin_message(self.opcode)
            self.fragments = 0
            if self.compressed:
                self.inflater.begin()
        if self.compressed:
            self.inflater.taken += self.frame_size
        self.fragments += 1
        return 0

    cdef object read_payload(self):
        """Take what the chunk has of the frame's payload. Returns its event's content if that ends it, else None."""
        cdef uint64_t size = min(self.frame_left, <uint64_t>(self.end - self.at))
        cdef uint64_t before = self.body_size
        cdef uint8_t* target
        if self.meter is not None and not self.meter.takes_payload(self.opcode, size) and not self.drops():
            return self.exceed()
        if self.opcode >= OPCODE_CLOSE:
            target = <uint8_t*>PyBytes_AS_STRING(self.control) + self.frame_size - self.frame_left
            crest_unmask(target, self.at, size, self.key, self.frame_size - self.frame_left)
        elif is_skipped(self):
            pass
        elif self.compressed:
            if not self.inflate(size):
                return self.fail(self.inflater.close_code, self.inflater.error)
            if self.meter is not None and not self.meter.takes_inflated(self.body_size - before) and not self.drops():
                return self.exceed()
        elif self.take(self.at, size) == 0:
            return self.decode(body_of(self), self.body_size + size)
        self.at += size
        self.frame_left -= size
        if self.frame_left:
            return None
        self.in_payload = False
        return self.end_frame()

    cdef int take(self, const uint8_t* source, uint64_t size) except -1:
        """Unmask payload bytes behind the body's. Returns 0 if its text can not be UTF-8 any more (section 8.1)."""
        cdef uint8_t* target
        cdef uint8_t seen
        if size == 0:
            return 1
        if self.body_room - self.body_size < size:
            self.reserve(size)
        target = body_of(self) + self.body_size
        seen = crest_unmask(target, source, size, self.key, self.frame_size - self.frame_left)
        return self.extend_body(size, seen < 0x80)

    cdef bint inflate(self, uint64_t size) except -1:
        """Inflate compressed payload bytes behind the body's. Returns False if they fail the message."""
        cdef size_t offset = self.frame_size - self.frame_left
        self.done = True  # in case that there is no memory: then nothing more can be read
        valid = self.inflater.feed(self, self.at, size, self.key, offset, self.fin and size == self.frame_left)
        self.done = False
        return valid

    cdef int reserve(self, uint64_t size) except -1:
        """Make room in the body for `size` more bytes: at first for what was announced, as far as it is safe to
        believe. Then the room doubles, so that many small fragments cost a copy of each byte or two at most."""
        cdef uint64_t needed = self.body_size + size
        cdef uint64_t announced = self.body_size + self.frame_left
        cdef uint64_t room = max(needed, min(announced, UNPROVEN_ROOM), self.body_room * 2)
        self.done = True  # as in `inflate`
        self.resize_body(max(LEAST_ROOM, min(room, announced if self.fin else self.max_message_size)))
        self.done = False
        return 0

    # ---- What is complete ----------------------------------------------------------------------------------------

    cdef object end_frame(self):
        """End the current frame. Returns its event's content, or None if its message goes on."""
        cdef bytes payload
        if self.opcode <= OPCODE_BINARY:
            return self.end_message() if self.fin else None
        payload = self.control
        self.control = None
        if self.opcode == OPCODE_CLOSE:
            return self.parse_close(payload)
        self.event = self.opcode
        return payload

    cdef object end_message(self):
        """End the message, which is complete. Returns its str or bytes."""
        cdef uint8_t opcode = self.message_opcode
        if self.meter is not None and self.meter.dropping:
            return self.end_dropped()
        if not self.ascii and not crest_utf8_finish(&self.utf8):
            return self.decode(body_of(self), self.body_size)
        self.done = True  # as in `inflate`
        message = self.whole_body()
        self.done = False
        self.drop_message()
        self.event = opcode
        self.message_opcode = OPCODE_CONTINUATION
        return message

    cdef object end_dropped(self):
        """End the message, which is complete and dropped."""
        self.meter.dropping = False
        self.drop_message()
        self.event = DROPPED
        self.message_opcode = OPCODE_CONTINUATION
        return ""

    cdef void drop_message(self) noexcept:
        """Let go of all that the message has: it is taken, or not needed any more."""
        self.drop_body()
        if self.compressed:
            self.compressed = False
            self.inflater.end()

    cdef object decode(self, const uint8_t* data, size_t size):
        """Decode the bytes of a text message into a str. Fails if they are not UTF-8 (section 8.1)."""
        cdef size_t fault = 0
        text = decode_text(data, size, &fault)
        if text is None:
            self.done = True  # as in `refuse`
            return self.fail(CLOSE_INVALID_PAYLOAD_DATA, f"a text message is not UTF-8 at byte {fault}")
        return text

    cdef object parse_close(self, bytes payload):
        """Read a close frame's payload, and return its reason. It ends the stream."""
        cdef int code
        cdef bint valid
        self.done = True
        text = read_close(payload, &code, &valid)
        if not valid:
            return self.fail(code, text)
        self.drop_message()
        self.event = OPCODE_CLOSE
        self.close_code = code
        return text

    # ---- Failure (section 7.1.7) ---------------------------------------------------------------------------------

    cdef object fail(self, int close_code, str error):
        """Read nothing more: the peer broke the protocol or a limit."""
        self.stop()
        self.event = FAIL
        self.close_code = close_code
        return f"frame {self.frames}: {error}"

    cdef bint drops(self) noexcept:
        """True if what the meter does not take is dropped, and the rest of its message with it."""
        if self.meter.excess != DROP or self.opcode > OPCODE_BINARY:
            return False
        self.meter.dropping = True
        if is_skipped(self):
            self.drop_body()
            if self.compressed:
                self.inflater.end()
        return True

    cdef object exceed(self):
        """Fail for what the meter does not take."""
        self.done = True  # as in `refuse`
        return self.fail(CLOSE_POLICY_VIOLATION, self.meter.told())


def serialize(uint8_t opcode, const uint8_t[::1] payload not None):
    """Make one final, unmasked frame, as a server sends it (section 5.2), of an `Opcode` and a bytes-like payload."""
    cdef uint8_t header[MAX_SERVER_HEADER]
    cdef size_t size = payload.shape[0]
    cdef size_t n = write_header(header, opcode, size)
    frame = PyBytes_FromStringAndSize(NULL, n + size)
    memcpy(PyBytes_AS_STRING(frame), header, n)
    if size:
        memcpy(PyBytes_AS_STRING(frame) + n, &payload[0], size)
    return frame
