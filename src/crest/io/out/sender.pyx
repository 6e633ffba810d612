"""The way out of one connection's queue: to the kernel, or to the transport.

- `flush` writes past the transport with send(2) as long as the transport has nothing queued. What the kernel does not
  take stays in the queue, except for one slice that is handed to the transport. The transport tells by resume_writing
  when there is room again.
- Without a socket to write to (TLS, or a transport of the loop) the transport gets everything, slice by slice.

A `Sender` knows no messages. It sends the bytes of a `Backlog`.
"""

from crest.io.loop.turn cimport Turn, begin_section, end_section
from crest.io.out.backlog cimport ACCEPTING
from crest.io.syscalls cimport CREST_BROKEN, crest_send

cdef size_t MOST_HANDED = 1 << 16         # bytes: the most that the transport gets at a time
cdef size_t BENEATH = 1 << 16       # bytes that are taken to wait below a transport of TLS while it holds some


cdef class Sender(Backlog):
    """A queue whose bytes leave by a transport, or past it."""

    cdef int flush(self) except -1:
        """Send what the kernel or the transport takes.

        Without memory that is put off until the next turn. If it can not be put off, or anything else fails, the
        connection is cut."""
        cdef Turn turn
        cdef ptrdiff_t sent = 0
        if self.count and not self.blocked and self.fd >= 0 and self.seen >= self.feed.end:
            # Most often the kernel takes everything at once. That way needs no memory and calls no Python.
            sent = crest_send(self.fd, self.pieces + self.first, self.count)
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
                    sent = crest_send(self.fd, self.pieces + self.first, self.count)
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
        data = self.head(MOST_HANDED)
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
            self.limited = True
            # Transports of TLS, which can not write_eof, pause at the limit, all others above it.
            self.layered = not self.transport.can_write_eof()
            self.transport.set_write_buffer_limits(self.layered)
        return 0

    cdef size_t beneath(self) noexcept:
        return BENEATH if self.layered else 0

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
