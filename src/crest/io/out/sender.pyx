"""The way out of one connection's queue: to the kernel, or to the transport.

- `flush` writes past the transport with send(2) as long as the transport has nothing queued. What the kernel does not
  take stays in the queue, except for one slice that is handed to the transport. The transport tells by resume_writing
  when there is room again.
- Without a socket to write to (TLS, or a transport of the loop) the transport gets everything, slice by slice.
- What the kernel or the transport has can neither be dropped nor superseded. Where that matters, `Feed.ahead` bounds
  how much of it there is for a peer that does not read: on a socket of TCP, and in each slice (decision 0020).

A `Sender` knows no messages. It sends the bytes of a `Backlog`.
"""

from libc.stdint cimport UINT32_MAX, uint32_t

from crest.io.loop.poller cimport Pollable
from crest.io.loop.turn cimport Turn, begin_section, end_section
from crest.io.out.backlog cimport ACCEPTING
from crest.io.syscalls cimport CREST_BROKEN, crest_ends_segment, crest_limit_ahead, crest_send, crest_send_some

cdef size_t MOST_HANDED = 1 << 16   # bytes: the most that the transport gets at a time
cdef size_t BENEATH = 1 << 16       # bytes that are taken to wait below a transport of TLS while it holds some

# What `limited` says of the transport.
cdef enum:
    PLAIN = 1
    LAYERED = 2     # it is the loop's of TLS: another one is below it


cdef class Sender(Backlog):
    """A queue whose bytes leave by a transport, or past it."""

    cdef int leave_by(self, object transport) except -1:
        self.transport = transport
        self.limit_ahead()
        if transport.get_write_buffer_size():
            self.pause()  # the transport may have called pause_writing while the opening was there
            self.limit_transport()
        return 0

    cdef int flush(self) except -1:
        """Send what the kernel or the transport takes.

        Without memory that is put off until the next turn. If it can not be put off, or anything else fails, the
        connection is cut."""
        cdef Turn turn
        cdef ptrdiff_t sent = 0
        cdef uint32_t ahead = self.feed.ahead
        if self.count and not self.blocked and self.fd >= 0 and self.seen >= self.feed.end and self.queued <= ahead:
            # Most often the kernel takes everything at once. That way needs no memory and calls no Python.
            sent = crest_send(self.fd, self.pieces + self.first, self.count, self.ends_segment(self.queued))
            if sent == <ptrdiff_t>self.queued and not self.lagging and not self.tell_drained:
                self.begun = 0
                return self.consume(sent)
        turn = self.feed.turn
        begin_section(turn)
        try:
            self.flush_pieces(sent)
        except MemoryError as error:
            if self.torn or self.queued > self.limit():
                self.cut_short(error)
            else:
                self.put_off()
        except BaseException as error:
            self.cut_short(error)
            if not isinstance(error, Exception):
                raise
        finally:
            end_section(turn)
        return 0

    cdef int flush_pieces(self, ptrdiff_t sent) except -1:
        """Send pieces. `sent` is what crest_send() has returned for them: bytes that the kernel took, or a code. 0: it
        is yet to be called."""
        if self.transport is None:
            return self.discard()
        if self.state == ACCEPTING and self.seen < self.feed.end:
            self.feed.catch_up(self)
        while not self.blocked and (self.count or (self.lagging and self.refill())):
            if self.fd >= 0:
                if sent == 0:
                    sent = self.send_some()
                if sent == CREST_BROKEN:
                    return self.broken()
                if sent > 0:
                    self.sent(sent)
                    sent = 0
                    continue
            self.hand_over()
            sent = 0
        if self.count:
            self.settle()
        elif self.tell_drained and not self.blocked:
            self.tell_drained = False
            self.owner.drained()
        return 0

    cdef ptrdiff_t send_some(self) noexcept:
        """Offer the kernel what waits, or a slice; returns what `crest_send` returns."""
        cdef size_t size
        if self.feed.ahead == UINT32_MAX:
            return crest_send(self.fd, self.pieces + self.first, self.count, False)
        size = min(self.queued, self.slice_size())
        return crest_send_some(self.fd, self.pieces + self.first, self.count, size, self.ends_segment(size))

    cdef inline bint ends_segment(self, size_t size) noexcept:
        return crest_ends_segment(&self.units, self.feed.segment, size)

    cdef size_t slice_size(self) noexcept:
        """Return how many bytes to hand over at a time: what the system may take ahead of the peer. All of the first
        frame may be in it: a peer that has a part of it must get the rest."""
        if self.feed.ahead >= MOST_HANDED:
            return MOST_HANDED
        return min(MOST_HANDED, max(<size_t>self.feed.ahead, self.first_frame()))

    cdef size_t refill(self) except? 0:
        """Queue some of what a lagging outbox lacks; returns how many bytes."""
        if self.deflation is not None:
            # The peer's window goes on with messages that were compressed before its last own one.
            self.deflation.forget()
        return self.feed.refill(self)

    cdef int hand_over(self) except -1:
        """Give the transport a slice, so that it waits for the kernel and tells when there is room."""
        cdef bytes data
        if self.transport.is_closing():
            return self.broken()
        data = self.head(self.slice_size())
        self.limit_transport()
        self.torn = True
        self.sent(len(data))
        self.handed = len(data)
        self.transport.write(data)
        self.torn = False
        if self.blocked:
            self.budget().take(self.held())
        else:
            self.handed = 0
        return 0

    cdef int put_off(self) except -1:
        """Keep what waits until the next turn, outside the arena: there is no memory to send it now."""
        try:
            self.settle()
            self.feed.turn.add(self)
        except MemoryError as error:
            self.cut_short(error)
        return 0

    cdef int limit_transport(self) except -1:
        """Have the transport call pause_writing whenever it holds anything."""
        if not self.limited:
            # Transports of TLS, which can not write_eof, pause at the limit, all others above it.
            self.limited = PLAIN if self.transport.can_write_eof() else LAYERED
            self.transport.set_write_buffer_limits(self.limited == LAYERED)
        return 0

    cdef int limit_ahead(self) except -1:
        """Have the kernel take few bytes ahead of the peer, where `Feed.ahead` asks for that."""
        cdef Pollable pollable
        if self.feed.ahead == UINT32_MAX:
            return 0
        if isinstance(self.transport, Pollable):
            pollable = self.transport
            pollable.segment = self.feed.segment
            crest_limit_ahead(pollable.fd, self.feed.ahead)
            return 0
        socket = self.transport.get_extra_info("socket")
        if socket is not None:
            crest_limit_ahead(socket.fileno(), self.feed.ahead)
        return 0

    cdef size_t beneath(self) noexcept:
        return BENEATH if self.limited == LAYERED else 0

    cdef int pause(self) except -1:
        """Send nothing for now: the transport has something queued."""
        self.blocked = True
        return self.budget().fell_behind(self)

    cdef int resume(self) except -1:
        """Go on sending: the transport has nothing queued any more."""
        self.blocked = False
        self.forget_handed()
        self.flush()
        if not self.blocked:
            self.budget().caught_up(self)
        return 0

    cdef int broken(self) except -1:
        """Accept and send nothing more: the kernel says that the connection is gone. The reading side will find out,
        too, after it has read what the peer sent before, perhaps a close frame."""
        self.stop()
        return self.discard()
