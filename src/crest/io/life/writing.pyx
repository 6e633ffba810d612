"""Writing of one connection, and its pauses: while the transport has something queued, what is sent waits.

asyncio's transports tell protocols twice that a connection is lost if they are closed from within resume_writing. So
they do if a write in it finds that the peer has reset the connection. Hence nothing is sent or delivered in there: that
waits for the loop's next step.
"""

from libc.stdint cimport uint8_t, uint32_t

from crest.io.life.calls cimport DRAIN, call
from crest.io.life.heartbeat cimport hear
from crest.io.life.patience cimport Patience
from crest.io.life.phase cimport is_lost
from crest.io.life.watch cimport begin_service, end_service
from crest.io.loop.clock cimport milliseconds
from crest.io.loop.poller cimport Pollable
from crest.io.out.backlog cimport ACCEPTING
from crest.io.out.outbox cimport Outbox


cdef class Writing(Patience):
    """Acts on what the transport says of its buffer."""

    def pause_writing(self):
        if self.connection is not None:
            self.connection.pause()

    def resume_writing(self):
        if self.connection is not None:
            hear(&self.pulse, milliseconds(self.turn.clock))  # the peer has taken what waited for it
            if isinstance(self.transport, Pollable):
                self.go_on()
                return
            try:
                self.call_soon(self._go_on)
            except MemoryError:
                self.go_on()  # the transport does not say again that there is room
        elif self.opening is not None:
            self.opening.resume_writing()
        else:
            self.holds(0)

    def _go_on(self):
        if not is_lost(self.phase):
            self.go_on()

    cdef int go_on(self) except -1:
        """Send what waits."""
        self.connection.resume()
        return self.relieved()

    cdef int relieved(self) except -1:
        """Deliver on_drain if the peer, which has taken some of what waited for it, has taken all."""
        cdef Outbox connection = self.connection
        cdef uint32_t since
        cdef uint8_t awaited
        if self.hub.on_drain is None or connection.state != ACCEPTING or connection.blocked or connection.count \
                or (self.inbox is not None and self.inbox.drain_waits):
            return 0
        since = begin_service(self.hub, self.turn.clock)
        if self.hub.drains_at_once:
            call(self, DRAIN, None, None, &awaited)
        else:
            self.deliver(DRAIN, None, None)
        return end_service(self.hub, self.turn.clock, connection, since)
