"""A transport of crest's own for plain TCP (and Unix) sockets, in place of the event loop's.

`StreamTransport` does for a `Protocol` what asyncio's socket transports do, under the same names. Methods that crest
does not call are left out. It reads when the `Poller` finds the socket readable, straight to where the protocol wants
the bytes: there is no Python call between the kernel and the frame reader. What a connection writes goes past it most
of the time (see outbox.pyx): it queues only what the kernel did not take.

The callbacks of one connection run in a `contextvars` context of its own, as with asyncio's transports. A handler finds
there what an earlier handler of the same connection has set, and nothing of other connections.

What must hold:

- `watch` is called whenever `paused`, `stalled`, `at_end`, `closing`, `ended` or `pending` has changed, before any
  other event can be told: it alone knows what these mean for the poller.
- `pending` is None or not empty. While it is not None, nothing is sent past it.
- Once `ended`, nothing of the protocol is called but connection_lost. Until that call the descriptor stays open, though
  useless: an outbox knows its number. Without memory to have the loop call it, the poller calls to try again: that
  needs none.
- A failure in the middle of sending ends the connection: it is not known how much has gone.
- The poller calls through `call`, the loop calls `_lose`. Both run in the connection's context. No exception of a
  protocol passes `call`.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize, PyByteArray_Resize
from libc.stdint cimport uint32_t
from libc.string cimport memcpy

from crest.cpython cimport PyContext_CopyCurrent, PyContext_Enter, PyContext_Exit
from crest.io.life.protocol cimport Protocol
from crest.io.loop.poller cimport CREST_FINISHED, CREST_GONE, CREST_READABLE, CREST_WRITABLE, Pollable, Poller
from crest.io.syscalls cimport (
    CREST_ADDRESS_TEXT,
    CREST_BROKEN,
    crest_address_text,
    crest_close,
    crest_ends_segment,
    crest_recv,
    crest_send,
    crest_shut_down,
    crest_shut_down_writing,
)

cdef uint32_t HIGH_WATER = 1 << 16
cdef int MADE = 0   # in place of events: nothing is ready, but the connection is new

cdef enum:
    PAUSED = 1
    FINISHED = 2    # and the protocol has been told that the peer has closed its half


# The garbage collector would cost each connection 16 bytes, so it does not know transports. Instead every ending breaks
# the cycle of transport and protocol: `_lose`, or `abandoned` where the loop does not turn any more.
@cython.no_gc
cdef class StreamTransport(Pollable):
    """The transport of one connection.

    Args:
        poller: of the loop that the connection belongs to.
        protocol: that the transport serves.
        fd: a connected stream socket that does not block; the transport closes it.
    """

    def __cinit__(self, Poller poller not None, Protocol protocol not None, int fd):
        self.poller = poller
        self.protocol = protocol
        self.high = HIGH_WATER
        self.context = PyContext_CopyCurrent()
        self.fd = fd  # last: as long as it may raise, the caller has to close it

    def __dealloc__(self):
        if self.fd >= 0:
            crest_close(self.fd)

    def start(self):
        """Tell the protocol, and begin to read; once."""
        self.poller.keep(self)
        self.call(MADE)

    def get_extra_info(self, name, default=None):
        """Return what `name` names: `peername`, (address, port) if the peer has that; or `context`, the `contextvars`
        context of the callbacks."""
        cdef char text[CREST_ADDRESS_TEXT]
        if name == "peername" and crest_address_text(&self.peer, text):
            return text.decode(), self.peer.port
        if name == "context":
            return self.context
        return default

    cdef int ready(self, int events) except -1:
        return self.call(events)

    cdef int call(self, int events) except -1:
        """Have the protocol called for what is ready, in the context of its connection. An exception ends this
        connection and no other."""
        cdef object context = self.context  # a reference of its own: a child that a handler forks forgets it
        if self.ended:
            return self.lose_soon()
        PyContext_Enter(context)
        try:
            if events == MADE:
                self.protocol.connection_made(self)
                self.watch()
            # Reading comes first, as in asyncio's loops: a close frame that came before the connection broke is read.
            if events & CREST_READABLE:
                self.read()
            if events & self.watched & (CREST_FINISHED | CREST_GONE):
                self.left_by_peer(events & CREST_GONE)  # unread bytes are read before a write fails
            elif events & self.watched & CREST_WRITABLE:
                self.write_pending()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.fail(error)
        finally:
            PyContext_Exit(context)
        return 0

    cdef int watch(self) except -1:
        """Have the poller watch for the events of interest; called whenever those may have changed."""
        cdef int events = 0
        if self.ended:
            return 0  # see lose_soon()
        if not (self.paused or self.stalled or self.at_end or self.closing):
            events |= CREST_READABLE
        elif not (self.closing or self.eof_due):
            events |= CREST_GONE if self.at_end or self.paused == FINISHED else CREST_GONE | CREST_FINISHED
        if self.pending is not None:
            events |= CREST_WRITABLE
        try:
            self.poller.watch(self, events)
        except OSError as error:
            self.fail(error)
        return 0

    # ---- Reading -------------------------------------------------------------------------------------------------

    cdef int read(self) except -1:
        cdef Protocol protocol = self.protocol
        cdef char* where
        cdef size_t room
        cdef ptrdiff_t size
        protocol.buffer(&where, &room)
        size = crest_recv(self.fd, where, room)
        if size > 0:
            protocol.received(size)
        elif size == 0:
            self.ended_by_peer()
        elif size == CREST_BROKEN:
            self.end()
        return 0

    cdef int ended_by_peer(self) except -1:
        """Tell the protocol that the peer has closed its half. Close, unless the protocol has more to send."""
        self.at_end = True
        self.watch()
        if not self.protocol.eof_received():
            self.close()
        return 0

    cdef int left_by_peer(self, bint gone) except -1:
        """Deal with the end of a connection that is not read. The peer has closed its half, or both if `gone`."""
        if self.at_end or self.stalled:  # nothing more is to be read, or the peer has not read TLS's answers
            return self.end()
        if not self.protocol.left_by_peer(gone) and self.paused:
            self.paused = FINISHED
            self.watch()
        return 0

    def pause_reading(self):
        self.paused = PAUSED
        self.watch()

    def resume_reading(self):
        self.paused = False
        self.watch()

    # ---- Writing -------------------------------------------------------------------------------------------------

    def write(self, data not None):
        """Send bytes, or queue what the kernel does not take.

        Args:
            data: any contiguous bytes-like object; a mutable one may be changed as soon as the call returns.

        Raises:
            RuntimeError: after write_eof().
        """
        cdef Py_buffer view
        if self.eof_due:
            raise RuntimeError("write() after write_eof()")
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            if not self.ended and view.len:
                self.push(<const char*>view.buf, view.len)
        except BaseException:
            self.end()
            raise
        finally:
            PyBuffer_Release(&view)

    cdef int push(self, const char* data, size_t size) except -1:
        cdef crest_piece piece
        piece.data = data
        piece.size = size
        return self.push_pieces(&piece, 1)

    cdef int push_pieces(self, const crest_piece* pieces, size_t count) except -1:
        cdef ptrdiff_t sent = 0
        cdef size_t i, size = 0
        if self.pending is None:
            for i in range(count):
                size += pieces[i].size
            sent = crest_send(self.fd, pieces, count, self.ends_segment(size))
            if sent == CREST_BROKEN:
                return self.end()
            sent = max(sent, 0)
        for i in range(count):
            if <size_t>sent < pieces[i].size:
                self.queue(pieces[i].data + sent, pieces[i].size - sent)
            sent = max(sent - <ptrdiff_t>pieces[i].size, 0)
        return self.pace() if self.pending is not None else 0

    cdef inline bint ends_segment(self, size_t size) noexcept:
        return crest_ends_segment(&self.units, self.segment, size)

    cdef int queue(self, const char* data, size_t size) except -1:
        cdef size_t before
        if self.pending is None:
            self.pending = PyByteArray_FromStringAndSize(data, size)
            return self.watch()
        before = len(self.pending)
        PyByteArray_Resize(self.pending, before + size)
        memcpy(PyByteArray_AS_STRING(self.pending) + before, data, size)
        return 0

    cdef int write_pending(self) except -1:
        cdef crest_piece piece
        cdef ptrdiff_t sent
        piece.data = PyByteArray_AS_STRING(self.pending)
        piece.size = len(self.pending)
        sent = crest_send(self.fd, &piece, 1, self.ends_segment(piece.size))
        if sent == CREST_BROKEN:
            return self.end()
        if sent > 0:
            if <size_t>sent == piece.size:
                self.pending = None
            else:
                del self.pending[:sent]
            self.pace()
        if self.pending is None and not self.ended:
            self.watch()
            if self.closing or self.eof_due:
                self.all_sent()
        return 0

    cdef int pace(self) except -1:
        """Tell the protocol to pause or resume writing."""
        cdef size_t size = self.get_write_buffer_size()
        if self.ended:
            return 0
        if not self.writing_paused and size > self.high:
            self.writing_paused = True
            self.protocol.pause_writing()
        elif self.writing_paused and size <= self.high // 4:
            self.writing_paused = False
            self.protocol.resume_writing()
        return 0

    def get_write_buffer_size(self):
        return 0 if self.pending is None else len(self.pending)

    def get_write_buffer_limits(self):
        return self.high // 4, self.high

    def set_write_buffer_limits(self, uint32_t high=HIGH_WATER):
        """Pause the protocol's writing above so many bytes, and resume it at a quarter of them."""
        self.high = high
        self.pace()

    def can_write_eof(self):
        return True

    def write_eof(self):
        """Shut the writing half down, when all is sent."""
        if not (self.eof_due or self.closing):
            self.eof_due = True
            if self.pending is None:
                self.all_sent()

    # ---- The end -------------------------------------------------------------------------------------------------

    def is_closing(self):
        return bool(self.closing)

    def close(self):
        """Close the connection, when all is sent."""
        if not self.closing:
            self.closing = True
            self.watch()
            if self.pending is None:
                self.all_sent()

    cdef int all_sent(self) except -1:
        """Close the connection, or shut its writing half down: nothing is pending any more."""
        if self.closing:
            return self.end()
        crest_shut_down_writing(self.fd)  # if that fails the connection is broken, and a read will tell
        return 0

    def abort(self):
        """Close the connection now."""
        self.end()

    cdef int fail(self, object error) except -1:
        """End the connection because of an error that is not the peer's doing."""
        protocol = self.protocol
        self.end()
        self.poller.loop.call_exception_handler(
            {"message": "Fatal error in a connection", "exception": error, "transport": self, "protocol": protocol})
        return 0

    cdef int end(self) except -1:
        if not self.ended:
            self.ended = self.closing = True
            self.pending = None
            self.lose_soon()
        return 0

    cdef int lose_soon(self) except -1:
        """Have the loop call connection_lost. Without memory for that, have the poller call this again until there is
        some."""
        try:
            self.poller.loop.call_soon(self._lose, context=self.context)
        except MemoryError:
            crest_shut_down(self.fd)  # it is readable from now on
            self.poller.watch(self, CREST_READABLE)
        else:
            self.poller.watch(self, 0)
        return 0

    def _lose(self):
        cdef Protocol protocol = self.protocol
        if protocol is None:
            return
        self.protocol = None
        try:
            self.lost(protocol)
        finally:
            self.poller.release(self)
            self.context = None
            crest_close(self.fd)
            self.fd = -1

    cdef int lost(self, Protocol protocol) except -1:
        protocol.connection_lost(None)
        return 0

    cdef int abandoned(self) except -1:
        if not self.poller.loop.is_closed():
            return self.end()
        return self.cease()

    cdef int disowned(self) except -1:
        return self.cease()

    cdef int cease(self) except -1:
        """End without sending anything to the peer, and without a call of the loop."""
        cdef Protocol protocol = self.protocol
        self.ended = self.closing = True
        self.watched = 0
        self.pending = self.protocol = self.context = None
        try:
            if protocol is not None:
                protocol.loop_closed()
        finally:
            crest_close(self.fd)
            self.fd = -1
        return 0
