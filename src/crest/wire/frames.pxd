# The frame reader's shape and the frame header's serialization; see frames.pyx.

from libc.stdint cimport int16_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from crest.wire.assembler cimport Assembler
from crest.wire.deflate cimport INFLATING, Inflater, most_compressed
from crest.wire.meter cimport Meter
from crest.wire.rfc6455 cimport MASK_BIT, OPCODE_BINARY, OPCODE_CONTINUATION, OPCODE_TEXT, RSV1
from crest.wire.violations cimport MISPLACED_RSV1, RESERVED_BITS

# The event that FrameReader.next() found: an opcode of rfc6455.pxd when a message or a control frame is complete, else
# one of these.
cdef enum:
    NEED_DATA = -1
    FAIL = -2
    DROPPED = -3             # a message that came over the rate

cdef enum:
    MAX_SERVER_HEADER = 10   # bytes of a frame header without a masking key (RFC 6455 section 5.2)
    MAX_CLIENT_HEADER = 14   # ... and with one
    LEAST_SERVER_HEADER = 2

cdef class FrameReader(Assembler):
    cdef readonly uint32_t max_fragments        # frames of one message, empty ones count
    cdef uint32_t fragments                     # frames of this message so far
    # The chunk being read. Borrowed: the caller of attach() keeps it alive until next() says NEED_DATA.
    cdef const uint8_t* at
    cdef const uint8_t* end
    # The frame being read.
    cdef uint64_t frame_size, frame_left        # payload bytes in all, and still to come
    cdef uint8_t head[MAX_CLIENT_HEADER]        # a header that came in pieces
    cdef uint8_t head_size
    cdef uint8_t key[4]                         # zeros for a client, whose frames come unmasked
    cdef uint8_t opcode
    cdef uint8_t fin, in_payload, done          # flags
    cdef uint8_t compressed                     # the message that this frame belongs to is
    cdef Inflater inflater                      # None: no message may be compressed
    cdef Meter meter                            # None: the client may send as fast as it can
    # The payload of a control frame that came in pieces.
    cdef bytes control
    cdef uint32_t frames                        # begun so far, modulo 2**32: says where a failure was
    # What next() found.
    cdef readonly int16_t event
    cdef readonly uint16_t close_code           # of a close frame, or to fail the connection with

    cdef void attach(self, const uint8_t* data, size_t size) noexcept
    cdef object next(self)
    cdef uint8_t* direct(self, size_t least, size_t* room) except? NULL
    cdef void wrote(self, size_t size) noexcept
    cdef void stop(self) noexcept

    cdef object read_payload(self)
    cdef object whole_message(self, const uint8_t* payload, Py_ssize_t size)
    cdef Py_ssize_t parse_header(self, const uint8_t* head, size_t size) noexcept
    cdef object refuse(self, Py_ssize_t violation)
    cdef int begin_payload(self) except -1
    cdef int take(self, const uint8_t* source, uint64_t size) except -1
    cdef bint inflate(self, uint64_t size) except -1
    cdef int reserve(self, uint64_t size) except -1
    cdef object end_frame(self)
    cdef object end_message(self)
    cdef object end_dropped(self)
    cdef void drop_message(self) noexcept
    cdef object decode(self, const uint8_t* data, size_t size)
    cdef object parse_close(self, bytes payload)
    cdef object fail(self, int close_code, str error)
    cdef bint drops(self) noexcept
    cdef object exceed(self)


cdef inline Py_ssize_t short_message(FrameReader reader) noexcept:
    """Go behind a message of one frame and less than 126 bytes, and return its payload bytes. -1: it is something else,
    for `parse_header` to judge. Such messages come most; this short cut halves their instructions (benches/guard.py
    counts them)."""
    if reader.mask_bit:  # as a constant, either way
        return short_message_of(reader, MASK_BIT)
    return short_message_of(reader, 0)


cdef inline Py_ssize_t short_message_of(FrameReader reader, uint8_t mask_bit) noexcept:
    """Do what `short_message` says, for a peer that sets this mask bit."""
    cdef const uint8_t* head = reader.at
    cdef Py_ssize_t left = reader.end - reader.at, header = LEAST_SERVER_HEADER + (4 if mask_bit else 0)
    cdef uint8_t length
    if reader.done | reader.in_payload | reader.head_size | reader.message_opcode or left < header:
        return -1
    length = head[1] ^ mask_bit  # 128 or more if the mask bit is wrong
    if (head[0] != 0x80 | OPCODE_TEXT and head[0] != 0x80 | OPCODE_BINARY) \
            or length >= 126 or length > left - header or length > reader.max_message_size:
        return -1
    reader.frames += 1
    reader.opcode = head[0] & 0x0F
    if mask_bit:
        memcpy(reader.key, head + 2, 4)
    reader.at += header + length
    return length


cdef inline bint is_skipped(FrameReader reader) noexcept:
    """True if the payload that comes is thrown away unread: its message is dropped, and no message after it can refer
    to it (RFC 7692 section 7.2.3.2)."""
    return reader.meter is not None and reader.meter.dropping \
        and not (reader.compressed and reader.inflater.takeover)


cdef inline Py_ssize_t check_reserved(FrameReader reader, uint8_t bits) noexcept:
    """Judge the reserved bits that are set, and return 0, or a `Violation`. RSV1, and no other bit, on the first frame
    of a message says that it is compressed (RFC 7692 section 6)."""
    if bits != RSV1 or reader.inflater is None:
        return RESERVED_BITS
    if reader.opcode != OPCODE_TEXT and reader.opcode != OPCODE_BINARY:
        return MISPLACED_RSV1
    reader.compressed = True
    return 0


cdef inline bint is_too_long(FrameReader reader) noexcept:
    """True if the frame that begins makes its message longer than max_message_size, or its compressed data longer than
    such a message can need: empty blocks inflate to nothing (RFC 1951 section 3.2.4), and cost time."""
    if not reader.compressed:
        return reader.frame_size > reader.max_message_size - reader.body_size
    if reader.opcode != OPCODE_CONTINUATION:
        return reader.frame_size > most_compressed(reader.max_message_size, 1)
    return reader.frame_size > most_compressed(reader.max_message_size, reader.fragments + 1) - reader.inflater.taken


cdef inline size_t held(FrameReader reader) noexcept:
    """Return the bytes of memory that an unfinished message takes."""
    if reader.body == NULL:
        return 0
    return reader.body_room + (INFLATING if reader.compressed and not reader.inflater.takeover else 0)


cdef inline size_t write_header(uint8_t* out, uint8_t opcode, uint64_t size) noexcept nogil:
    """Write the header of a final, unmasked frame with the shortest length encoding; returns its bytes. `opcode` may
    have RSV1."""
    cdef int shift
    cdef size_t n
    out[0] = 0x80 | opcode
    if size < 126:
        out[1] = <uint8_t>size
        return 2
    if size < 0x10000:
        out[1] = 126
        n = 2
        shift = 8
    else:
        out[1] = 127
        n = 2
        shift = 56
    while shift >= 0:
        out[n] = <uint8_t>(size >> shift)
        n += 1
        shift -= 8
    return n


cdef inline uint64_t frame_size(const uint8_t* head) noexcept nogil:
    """Return the bytes of a frame that `write_header` began, its header included."""
    cdef uint64_t size = head[1]
    cdef int i
    if size < 126:
        return 2 + size
    if size == 126:
        return 4 + (head[2] << 8 | head[3])
    size = 0
    for i in range(2, 10):
        size = size << 8 | head[i]
    return 10 + size
