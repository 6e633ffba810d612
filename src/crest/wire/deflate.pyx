"""permessage-deflate (RFC 7692 section 7.2): messages to compressed payloads and back, on zlib. Sans-I/O.

The connections of one server share a `Codec`. Without context takeover each message is compressed for itself. So one
stream of zlib's serves them all, reset for each message, and an idle connection holds none. Inflating borrows a stream
for as long as a message takes to arrive. With context takeover a connection's `Deflater` and `Inflater` have streams of
their own, from the first message on until they go.

Bytes of a stream, with zlib 1.2.13 (table in docs/compression.md): to deflate, 4 << window bits, 512 << memory level
and 6 KiB; to inflate, 1 << window bits and 7 KiB.

The garbage collector need not look at any of this: nothing here holds what could hold it.

It knows no frames: frames.pyx passes it runs of masked payload, and the message to put them in.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_RawFree, PyMem_RawMalloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
from libc.stdint cimport uint8_t, uint64_t

from crest.cpython cimport PyBytes_FromStringAndSize, PyThreadState_Get, _PyBytes_Resize
from crest.kernels.mask cimport crest_mask_init, crest_unmask
from crest.kernels.utf8 cimport crest_utf8_fault_offset, crest_utf8_is_ascii
from crest.wire.assembler cimport Assembler, body_of
from crest.wire.rfc6455 cimport CLOSE_INVALID_PAYLOAD_DATA, CLOSE_MESSAGE_TOO_BIG, OPCODE_TEXT
from crest.wire.role cimport SERVER

cdef extern from "zlib.h" nogil:
    ctypedef struct z_stream:
        uint8_t* next_in
        unsigned int avail_in
        uint8_t* next_out
        unsigned int avail_out
        const char* msg
        void* (*zalloc)(void* opaque, unsigned int items, unsigned int size) noexcept
        void (*zfree)(void* opaque, void* address) noexcept
        int data_type

    int Z_OK, Z_STREAM_END, Z_BUF_ERROR, Z_MEM_ERROR
    int Z_NO_FLUSH, Z_SYNC_FLUSH
    int Z_DEFLATED, Z_DEFAULT_STRATEGY, Z_HUFFMAN_ONLY
    int deflateInit2(z_stream* stream, int level, int method, int bits, int memory_level, int strategy)
    int deflateReset(z_stream* stream)
    int deflateEnd(z_stream* stream)
    int z_deflate "deflate"(z_stream* stream, int flush)
    int inflateInit2(z_stream* stream, int bits)
    int inflateReset(z_stream* stream)
    int inflateResetKeep(z_stream* stream)  # not in zlib's manual, but exported: the window stays
    int inflateEnd(z_stream* stream)
    int z_inflate "inflate"(z_stream* stream, int flush)

crest_mask_init()

# The end of a compressed message, which is not sent (section 7.2.1): an empty stored block but for its first bits.
cdef const uint8_t* TAIL = b"\x00\x00\xff\xff"

cdef str TOO_FAR_BACK = "invalid distance too far back"     # zlib: a reference to what is before the window
cdef str FORGETFUL_CLIENT = "; does the client ignore client_no_context_takeover?"
cdef str FORGETFUL_SERVER = "; does the server ignore server_no_context_takeover?"

cdef enum:
    TAIL_SIZE = 4
    LEAST_BITS = 9              # of a window that zlib deflates with
    MOST_BITS = 15
    AT_BLOCK_END = 128          # in data_type, by zlib.h; the bits below 64 count bits of a byte that are not used up
    UNUSED_BITS = 63

cdef size_t UNMASKED = 1 << 14          # bytes of payload that are unmasked at a time
cdef uint64_t LEAST_ROOM = 4096         # bytes for a message at first; what it does not need is given back
cdef uint64_t USUAL_RATIO = 4           # bytes that are likely to come of one
cdef size_t UNLOCKED = 1 << 15          # bytes of a message that is compressed without the GIL
cdef size_t MOST_AT_ONCE = 1 << 30      # bytes: zlib counts in 32 bits
cdef Py_ssize_t MOST_IDLE = 8           # streams that a codec keeps for messages to come


cdef void* allocate(void* opaque, unsigned int items, unsigned int size) noexcept nogil:
    return PyMem_RawMalloc(<size_t>items * size)


cdef void release(void* opaque, void* address) noexcept nogil:
    PyMem_RawFree(address)


@cython.final
cdef class DeflateStream:
    """A deflating z_stream."""

    cdef z_stream z

    def __cinit__(self, int window_bits, int level, int memory_level):
        # Without references to bytes before, any window is wide enough.
        cdef int strategy = Z_HUFFMAN_ONLY if window_bits == LEAST_BITS - 1 else Z_DEFAULT_STRATEGY
        cdef int bits = LEAST_BITS if window_bits == LEAST_BITS - 1 else window_bits
        self.z.zalloc = allocate
        self.z.zfree = release
        check(deflateInit2(&self.z, level, Z_DEFLATED, -bits, memory_level, strategy))

    def __dealloc__(self):
        deflateEnd(&self.z)


@cython.final
cdef class InflateStream:
    """An inflating z_stream."""

    cdef z_stream z

    def __cinit__(self, int window_bits):
        self.z.zalloc = allocate
        self.z.zfree = release
        check(inflateInit2(&self.z, -window_bits))

    def __dealloc__(self):
        inflateEnd(&self.z)


cdef int check(int status) except -1:
    if status == Z_MEM_ERROR:
        raise MemoryError
    if status != Z_OK:
        raise ValueError("zlib refuses these window bits, level or memory level")
    return 0


@cython.final
@cython.no_gc
cdef class Codec:
    """Holds what connections of one event loop share: streams, and the buffers that they work in.

    Args:
        level: 1 (fastest) to 9 (smallest).
        memory_level: 1 to 9, see `Deflate`.
    """

    def __cinit__(self, *, int level=3, int memory_level=5):
        self.level = level
        self.memory_level = memory_level
        self.thread = PyThreadState_Get()
        self.deflaters = {}
        self.idle = []
        self.unmasked = <uint8_t*>PyMem_Malloc(UNMASKED)
        if self.unmasked == NULL:
            raise MemoryError

    def __dealloc__(self):
        PyMem_Free(self.unmasked)

    def deflater(self, agreed, int role=SERVER):
        """Return the deflater of what a `Role` sends, after an `Agreement`; without context takeover, a shared one."""
        cdef int bits = agreed.server_max_window_bits if role == SERVER else agreed.client_max_window_bits
        if agreed.server_no_context_takeover if role == SERVER else agreed.client_no_context_takeover:
            return self.shared_deflater(bits)
        return Deflater(bits, self.level, self.memory_level, takeover=True)

    def inflater(self, agreed, int role=SERVER):
        """Return the inflater of what a `Role` receives, after an `Agreement`."""
        if role == SERVER:
            return Inflater(self, agreed.client_max_window_bits, takeover=not agreed.client_no_context_takeover)
        return Inflater(self, agreed.server_max_window_bits, takeover=not agreed.server_no_context_takeover)

    cdef Deflater shared_deflater(self, int window_bits):
        """Return the deflater whose messages any peer can read that has a window of so many bits, or more."""
        cdef Deflater deflater = self.deflaters.get(window_bits)
        if deflater is None:
            deflater = Deflater(window_bits, self.level, self.memory_level, takeover=False)
            self.deflaters[window_bits] = deflater
        return deflater

    cdef object borrow(self):
        """Return an inflating stream at its start, for any window."""
        return self.idle.pop() if self.idle else InflateStream(MOST_BITS)

    cdef void give_back(self, object stream) noexcept:
        """Keep a stream for messages to come. If there is no memory for that, let it go."""
        if len(self.idle) < MOST_IDLE:
            inflateReset(&(<InflateStream>stream).z)
            try:
                self.idle.append(stream)
            except MemoryError:
                pass


cdef int check_thread(void* owner) except -1:
    if PyThreadState_Get() != owner:
        raise RuntimeError("a codec belongs to the thread that made it")
    return 0


# ---- Compression (section 7.2.1) -------------------------------------------------------------------------------------


@cython.final
@cython.no_gc
cdef class Deflater:
    """Compresses messages.

    Args:
        window_bits: 8 to 15. zlib has no window of 8: then it only encodes single bytes in fewer bits.
        level: see `Codec`, like memory_level.
        takeover: whether messages refer to those before.
    """

    def __cinit__(self, int window_bits, int level, int memory_level, *, bint takeover):
        self.thread = PyThreadState_Get()
        self.window_bits = window_bits
        self.level = level
        self.memory_level = memory_level
        self.takeover = takeover

    def deflate(self, const uint8_t[::1] data not None):
        """Return what `compress` does."""
        return self.compress(<const char*>&data[0] if data.shape[0] else NULL, data.shape[0])

    cdef bytes compress(self, const char* data, size_t size):
        """Return the payload of a compressed message; None if it would not be shorter: then send the message as it is.

        With context takeover, the payloads must be sent in the order of the calls. If one is not, call `forget`.
        """
        cdef DeflateStream stream
        cdef PyObject* payload
        cdef uint8_t* out
        cdef size_t made
        check_thread(self.thread)
        if size == 0:
            return b"\x00"  # section 7.2.3.6; zlib makes nothing of nothing
        if self.stream is None:
            self.stream = DeflateStream(self.window_bits, self.level, self.memory_level)
        stream = self.stream
        if self.stale:
            deflateReset(&stream.z)
        self.stale = True  # in case of an exception
        payload = PyBytes_FromStringAndSize(NULL, size + TAIL_SIZE)
        out = <uint8_t*>PyBytes_AS_STRING(<object>payload)
        if size < UNLOCKED:
            made = deflate_all(&stream.z, out, <const uint8_t*>data, size)
        else:
            with nogil:
                made = deflate_all(&stream.z, out, <const uint8_t*>data, size)
        if made == 0:
            Py_DECREF(<object>payload)
            return None
        _PyBytes_Resize(&payload, made - TAIL_SIZE)
        self.stale = not self.takeover
        result = <bytes>payload
        Py_DECREF(result)
        return result

    cdef void forget(self) noexcept:
        """Let the next message refer to nothing before it: the last payload was not sent, or the peer was sent one that
        was compressed elsewhere."""
        self.stale = True


cdef size_t deflate_all(z_stream* z, uint8_t* out, const uint8_t* data, size_t size) noexcept nogil:
    """Compress a message into `size` bytes and a tail's. Returns how many it takes, tail included; 0: too many."""
    cdef size_t room = size + TAIL_SIZE, free = room, left = size
    cdef unsigned int part, space
    z.next_in = <uint8_t*>data
    z.next_out = out
    while free:
        part = <unsigned int>min(left, MOST_AT_ONCE)
        space = <unsigned int>min(free, MOST_AT_ONCE)
        z.avail_in = part
        z.avail_out = space
        z_deflate(z, Z_SYNC_FLUSH if part == left else Z_NO_FLUSH)
        left -= part - z.avail_in
        free -= space - z.avail_out
        if left == 0 and z.avail_out:  # with none left, zlib may have more to say
            return room - free
    return 0


# ---- Decompression (section 7.2.2) -----------------------------------------------------------------------------------


@cython.final
@cython.no_gc
cdef class Inflater:
    """Inflates the messages of one client: `begin`, `feed` for each run of payload bytes, `end` in any case.

    Args:
        codec: of the loop that it belongs to.
        window_bits: of the peer's window, 8 to 15.
        takeover: whether messages refer to those before.
    """

    def __cinit__(self, Codec codec not None, int window_bits, *, bint takeover):
        self.codec = codec
        self.window_bits = window_bits
        self.takeover = takeover

    cdef void begin(self) noexcept:
        """Begin a compressed message."""
        self.at_boundary = True
        self.taken = 0

    cdef bint feed(
        self, Assembler message, const uint8_t* source, size_t size, const uint8_t* key, size_t offset, bint last,
    ) except -1:
        """Inflate bytes of a frame's payload, masked as they came, into the message. `offset` bytes of the payload came
        before; the `last` ones complete the message. Returns False if it has failed: `close_code` and `error` say
        why."""
        cdef size_t part
        check_thread(self.codec.thread)
        while size:
            part = min(size, UNMASKED)
            crest_unmask(self.codec.unmasked, source, part, key, offset)
            if not self.inflate(message, self.codec.unmasked, part):
                return False
            source += part
            offset += part
            size -= part
        return self.finish(message) if last else True

    cdef void end(self) noexcept:
        """End the message, which is complete or has failed."""
        if self.stream is not None and not self.takeover:
            self.codec.give_back(self.stream)
            self.stream = None

    cdef bint inflate(self, Assembler message, const uint8_t* data, size_t size) except -1:
        """Inflate the next bytes of compressed data. Past the most that the message may have, one byte is inflated."""
        cdef uint64_t most = min(message.max_message_size, <uint64_t>1 << 62) + 1
        cdef unsigned int space
        cdef z_stream* z
        cdef int status
        if self.stream is None:
            self.stream = InflateStream(self.window_bits) if self.takeover else self.codec.borrow()
        z = &(<InflateStream>self.stream).z
        z.next_in = <uint8_t*>data
        z.avail_in = <unsigned int>size
        while True:
            if message.body_size == message.body_room:
                message.resize_body(min(max(message.body_room * 2, size * USUAL_RATIO, LEAST_ROOM), most))
            space = <unsigned int>min(message.body_room - message.body_size, MOST_AT_ONCE)
            z.next_out = body_of(message) + message.body_size
            z.avail_out = space
            status = z_inflate(z, Z_SYNC_FLUSH)
            if not self.take(message, space - z.avail_out):
                return False
            if status == Z_STREAM_END:
                # A block with BFINAL set is followed by others all the same, the next one from the next byte on.
                inflateResetKeep(z)
                self.at_boundary = True
                if z.avail_in == 0:
                    return True
            elif status == Z_OK:
                self.at_boundary = z.data_type & (AT_BLOCK_END | UNUSED_BITS) == AT_BLOCK_END
                if z.avail_out:  # with none left, there may be more to come of what it has read
                    return True
            elif status == Z_BUF_ERROR:  # there was not
                return True
            elif status == Z_MEM_ERROR:
                raise MemoryError
            else:
                return self.fail(CLOSE_INVALID_PAYLOAD_DATA, self.fault_of(message, z.msg.decode()))

    cdef str fault_of(self, Assembler message, str found):
        """Say what zlib has found. Some clients overlook that they have agreed to client_no_context_takeover: their
        second message refers to their first."""
        cdef str error = f"compressed data is not valid: {found}"
        if found == TOO_FAR_BACK and not self.takeover:
            error += FORGETFUL_CLIENT if message.mask_bit else FORGETFUL_SERVER
        return error

    cdef bint finish(self, Assembler message) except -1:
        """Finish the complete payload: the tail must complete its last block, and be no data of it."""
        cdef uint64_t size = message.body_size
        if not self.at_boundary:
            if not self.inflate(message, TAIL, TAIL_SIZE):
                return False
            if not self.at_boundary or message.body_size > size:
                return self.fail(CLOSE_INVALID_PAYLOAD_DATA, "a compressed message ends within a block")
        return True

    cdef bint take(self, Assembler message, size_t size) except -1:
        """Count so many bytes, which were inflated behind those that the message has."""
        cdef const uint8_t* data = body_of(message) + message.body_size
        if not message.extend_body(size, message.message_opcode == OPCODE_TEXT and crest_utf8_is_ascii(data, size)):
            at = message.body_size + crest_utf8_fault_offset(&message.utf8, data, size)
            return self.fail(CLOSE_INVALID_PAYLOAD_DATA, f"a text message is not UTF-8 at byte {at}")
        if message.body_size > message.max_message_size:
            return self.fail(
                CLOSE_MESSAGE_TOO_BIG,
                f"a message of {message.body_size} bytes or more is over max_message_size, {message.max_message_size}")
        return True

    cdef bint fail(self, int close_code, str error) except -1:
        self.close_code = close_code
        self.error = error
        return False
