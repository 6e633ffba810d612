"""One end of a Unix stream socket between two processes that exchange records.

A `Link` is a queue of what is to be sent, with a socket most of the time. All that is queued within a turn leaves in
one send. When the socket is lost the link's owner is told. The queue stays, and may get another socket.

Bytes are received into blocks. The owner gets all that is not dealt with yet, says how much of that were whole records,
and may keep pieces of the block. A block that is not kept is used again. A record that is larger than a block gets one
of its own, as soon as its size has come.

Any failure ends the connection, a failed allocation too: what follows in the stream would make no sense.
"""

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint32_t
from libc.string cimport memcpy, memmove

from crest.cluster.outgoing cimport Outgoing
from crest.cluster.record cimport HEADER, LARGEST
from crest.cpython cimport Py_REFCNT
from crest.io.loop.poller cimport CREST_READABLE, CREST_WRITABLE, Pollable, Poller
from crest.io.loop.turn cimport Block
from crest.io.syscalls cimport CREST_BROKEN, crest_close, crest_recv, crest_send

cdef size_t BLOCK = 1 << 17         # bytes that are received at once
cdef size_t LEAST = 1 << 14         # bytes: room for less is not worth a call of the kernel's
cdef enum:
    SENDS = 16                      # in a row; then others have their turn


cdef class Owner:
    """Owns links."""

    cdef size_t received(self, Link link, Block block, const char* data, size_t size) except? 0:
        """Deal with the whole records at the beginning of what has come; returns how many bytes they have. An exception
        ends the connection."""
        raise NotImplementedError

    cdef int lost(self, Link link, object reason) except -1:
        """Take note that a link has lost its socket. `reason` says why; None: the other end has closed it."""
        raise NotImplementedError


@cython.final
cdef class Link(Outgoing):
    """One end of a connection; see `Outgoing`."""

    cdef int attach(self, Poller poller, int fd, Owner owner) except -1:
        """Use a socket, which does not block. The link closes it, unless this raises."""
        cdef End end = End.__new__(End)
        end.fd = fd
        try:
            poller.keep(end)
            poller.watch(end, CREST_READABLE)
            if self.queued:
                self.turn.add(self)
        except BaseException:
            poller.release(end)
            end.fd = -1
            raise
        end.link = self
        self.poller = poller
        self.owner = owner
        self.end = end
        return 0

    cdef int close(self) noexcept:
        """Close the socket, if there is one. The owner is not told."""
        cdef End end = self.end
        if end is None:
            return 0
        self.end = self.block = None
        self.start = 0
        end.link = None
        self.poller.release(end)
        crest_close(end.fd)
        end.fd = -1
        return 0

    cdef int lose(self, object reason) except -1:
        """Close the socket, and tell the owner."""
        if self.end is not None:
            self.close()
            self.owner.lost(self, reason)
        return 0

    cdef int ready(self, int events) except -1:
        try:
            if events & CREST_READABLE:
                self.receive()
            if events & CREST_WRITABLE and self.end is not None:
                self.send()
        except Exception as error:
            self.lose(error)
        return 0

    # ---- Receiving -----------------------------------------------------------------------------------------------

    cdef int receive_rest(self) except -1:
        """Receive all that has come, before the socket is given up."""
        try:
            while self.end is not None and self.receive():
                pass
        except Exception as error:
            self.lose(error)
        return 0

    cdef bint receive(self) except -1:
        """Receive once. True if something had come."""
        cdef Block block = self.room_to_read()
        cdef ptrdiff_t size = crest_recv(self.end.fd, block.data + block.used, block.room - block.used)
        if size == 0 or size == CREST_BROKEN:
            self.lose(None)
        if size <= 0:
            return False
        block.used += size
        self.start += self.owner.received(self, block, block.data + self.start, block.used - self.start)
        return True

    cdef Block room_to_read(self):
        """Return the block to receive into, with room for more: if the record's size is known, for all of it."""
        cdef Block block = self.block, other
        cdef size_t rest = 0 if block is None else block.used - self.start, needed = HEADER
        cdef uint32_t size
        if not rest and block is not None and block.room > BLOCK:
            block = self.block = None  # it was for one large record
        if rest >= HEADER:
            memcpy(&size, block.data + self.start, 4)
            needed = min(size, LARGEST)
        if block is not None and Py_REFCNT(<PyObject*>block) == 2:  # `block` and `self.block`
            if not rest:
                block.used = self.start = 0
            elif self.start + needed > block.room or block.room - block.used < LEAST:
                if needed <= block.room:
                    memmove(block.data, block.data + self.start, rest)
                    block.used = rest
                    self.start = 0
        if block is None or self.start + needed > block.room or (
                block.room - block.used < LEAST and needed < block.room - LEAST):
            other = Block(max(needed, BLOCK), None)
            if rest:
                memcpy(other.data, block.data + self.start, rest)
            other.used = rest
            self.start = 0
            self.block = block = other
        return block

    # ---- Sending -------------------------------------------------------------------------------------------------

    cdef int flush(self) except -1:
        if self.end is not None:
            try:
                self.send()
            except Exception as error:
                self.lose(error)
        return 0

    cdef int send(self) except -1:
        """Send what is queued, as far as the kernel takes it. If the other end is gone, what it has sent is read first,
        and reading finds out."""
        cdef int _i
        cdef ptrdiff_t size = 1
        self.complete()
        for _i in range(SENDS):
            if not self.queued:
                break
            size = crest_send(self.end.fd, self.pieces + self.first, self.count, False)
            if size <= 0:
                break
            self.sent(size)
        return self.poller.watch(
            self.end, CREST_READABLE | (CREST_WRITABLE if self.queued and size != CREST_BROKEN else 0))


@cython.final
cdef class End(Pollable):
    """The socket of a link, as the poller knows it."""

    cdef int ready(self, int events) except -1:
        if self.link is not None:
            self.link.ready(events)
        return 0

    cdef int abandoned(self) except -1:
        if self.link is not None:
            self.link.close()
        return 0

    cdef int disowned(self) except -1:
        if self.link is not None:
            self.link.end = None
            self.link = None
        crest_close(self.fd)
        self.fd = -1
        return 0
