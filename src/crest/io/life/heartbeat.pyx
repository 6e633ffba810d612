"""The heartbeat of one connection: pings, and the time-outs for a peer that is silent.

Anything that comes is a sign of life. A peer that has sent nothing for `ping_interval` is asked for a sign with a ping
(RFC 6455 section 5.5.2). If nothing has come `ping_timeout` after that, the connection is failed. If no message has
come for `idle_timeout`, the connection is closed, however well the peer answers pings.

A read only notes the time. The connection's one deadline, on the loop's one timer, finds out what that means when it
expires. Most of the time the deadline is then set again for the time that is left.

A peer is not to blame for an answer that it could not send, or that crest did not read. So it has not failed to answer
while bytes of it are unread: a handler blocks the loop. Nor has it while it still takes what was sent before the ping:
it is slow.

While crest itself does not read (an async handler of this peer has too much to do), unread bytes say nothing. They may
be old, and the answer to a ping may have no room behind them. The peer's kernel still acknowledges what is sent. So
crest sends a pong, which wants no answer (section 5.5.3). The peer is alive unless its kernel owes an acknowledgement
and nothing at all has come. Where crest's kernel does not tell, its own time-out for unacknowledged bytes ends the
connection.
"""

from libc.stdint cimport UINT32_MAX, uint32_t

from crest.io.life.inbox cimport Inbox
from crest.io.loop.clock cimport milliseconds
from crest.io.loop.poller cimport Pollable
from crest.io.out.backlog cimport OPEN
from crest.io.out.hub cimport Hub
from crest.io.out.outbox cimport Outbox
from crest.io.syscalls cimport crest_has_input, crest_is_silent, crest_takes_output
from crest.wire.rfc6455 cimport CLOSE_GOING_AWAY, CLOSE_INTERNAL_ERROR, OPCODE_PONG

cdef uint32_t LEAST = 50        # milliseconds: a shorter rest of a span is awaited so long; the clock's tick
cdef uint32_t INEXACT = 20      # milliseconds: twice what milliseconds(), the cheap clock, may be late


cdef class Heartbeat(Inbox):
    """The signs of life of one connection. While it is open, its deadline is the heartbeat's."""

    cdef bint is_reading(self) except -1:
        """True if what the peer sends is read."""
        raise NotImplementedError

    cdef int begin(self) except -1:
        """Begin the heartbeat: the connection is open."""
        cdef uint32_t now = milliseconds(self.connection.feed.turn.clock)
        self.heard = self.spoke = now
        return self.await_next(now)

    cdef int beat(self) except -1:
        """Find out what the deadline means, which has expired, and act on it."""
        cdef Hub hub = self.hub
        cdef uint32_t now = milliseconds(self.connection.feed.turn.clock)
        if self.task is not None or not self.is_reading():
            self.spoke = now  # the peer may await an answer, or have sent a message that is not read
        if self.asked and left(self.asked, hub.ping_timeout, now) <= INEXACT:
            if not self.is_alive():
                return self.call_soon(self._ping_timed_out)
            self.heard = now
            self.asked = 0
        if hub.idle_timeout and left(self.spoke, hub.idle_timeout, now) <= INEXACT:
            if not self.has_input():
                return self.call_soon(self._idle_timed_out)
            self.spoke = now
        if hub.ping_interval and not self.asked \
                and left(self.heard, hub.ping_interval, now) <= hub.ping_interval // 16:
            self.ask(now)
        return self.await_next(now)

    cdef bint answered(self, bytes payload) except -1:
        """True if the pong that has come answers the last ping. Any other pong is unsolicited."""
        if not self.connection.pong(payload):
            return False
        self.await_next(self.heard)
        return True

    cdef int ask(self, uint32_t now) except -1:
        """Have the peer give a sign of life. A peer that has yet to take what was sent before needs no ping for
        that."""
        cdef Outbox connection = self.connection
        cdef bint reading = self.is_reading()
        if not connection.blocked and reading:
            connection.push_ping()
        elif not connection.blocked:
            connection.push_frame(OPCODE_PONG, "", 0, None)
        if not self.hub.ping_timeout:
            self.heard = now
            return 0
        self.asked = now or 1
        self.takes_output() if reading else self.is_silent()
        return 0

    cdef int await_next(self, uint32_t now) except -1:
        """Set the deadline for what is due next."""
        cdef Hub hub = self.hub
        cdef uint32_t wait = UINT32_MAX
        if self.connection.state != OPEN:
            return 0
        if self.asked:
            wait = rounded(left(self.asked, hub.ping_timeout, now), hub.ping_timeout)
        elif hub.ping_interval:
            wait = rounded(left(self.heard, hub.ping_interval, now), hub.ping_interval)
        if hub.idle_timeout:
            wait = min(wait, rounded(left(self.spoke, hub.idle_timeout, now), hub.idle_timeout))
        if wait != UINT32_MAX:
            self.connection.feed.turn.clock.start(self, wait / 1000.0)
        return 0

    # ---- A peer that has not answered ----------------------------------------------------------------------------

    cdef bint has_input(self) except -1:
        """True if bytes of the peer wait to be read because the loop was busy.

        False where crest does not read because the peer takes none of TLS's answers."""
        cdef object transport = self.connection.transport
        if isinstance(transport, Pollable) and (<Pollable>transport).stalled:
            return False
        return crest_has_input(descriptor_of(transport))

    cdef bint is_alive(self) except -1:
        if not self.is_reading():
            return not self.is_silent()
        return self.has_input() or self.takes_output()

    cdef bint is_silent(self) except -1:
        """True if nothing has come from the peer's kernel since the last look, though it owes acknowledgements."""
        return crest_is_silent(descriptor_of(self.connection.transport), &self.acknowledged)

    cdef bint takes_output(self) except -1:
        """True if the peer has taken some of what was sent since the last look, and more of it is pending."""
        cdef Outbox connection = self.connection
        cdef size_t unsent = connection.transport.get_write_buffer_size()
        return connection.leaves(unsent) | crest_takes_output(descriptor_of(connection.transport), &self.acknowledged)

    def _ping_timed_out(self):
        if self.asked and self.connection.state == OPEN:
            self.fail(CLOSE_INTERNAL_ERROR, f"ping timeout: nothing came for {self.hub.ping_timeout / 1000.0:g} s")

    def _idle_timed_out(self):
        if self.connection.state == OPEN:
            self.close(CLOSE_GOING_AWAY, f"idle: no message came for {self.hub.idle_timeout / 1000.0:g} s")


cdef uint32_t left(uint32_t since, uint32_t span, uint32_t now) noexcept:
    """Return what is left of a span of time that began at `since`."""
    cdef uint32_t gone = now - since
    return span - gone if gone < span else 0


cdef uint32_t rounded(uint32_t wait, uint32_t span) noexcept:
    """Round a wait down, by a sixteenth at most and not below LEAST. The whole span stays as it is. So the clock has
    few durations."""
    cdef int shift = 0
    if wait == span:
        return wait
    while wait >> shift >= 32:
        shift += 1
    return max(wait >> shift << shift, LEAST)


cdef int descriptor_of(object transport) except? -1:
    """Return the descriptor of the socket, of crest's transport or of the loop's; -1: there is none."""
    if isinstance(transport, Pollable):
        return (<Pollable>transport).fd
    sock = transport.get_extra_info("socket")
    return -1 if sock is None else sock.fileno()
