"""Patience with one peer: how long the connection waits for what, and what it does when that does not come.

A connection has one deadline at a time (`Deadline`), on the loop's one timer. While it is open, the deadline is the
heartbeat's (heartbeat.pyx), or that of a client over its rate (pace.pyx). Before, it is the opening's. After, it is for
the peer's close frame, for the end of its TCP connection, or for the handlers.
"""

from libc.stdint cimport UINT32_MAX, uint32_t

from crest.io.life.closing cimport Closing
from crest.io.life.heartbeat cimport ASK, IDLE, UNANSWERED, Terms, due, hear, judge
from crest.io.life.inbox cimport is_busy
from crest.io.life.pace cimport wait_for_tokens
from crest.io.life.phase cimport OPEN, is_lost
from crest.io.life.signs cimport acknowledges, has_input, is_silent
from crest.io.loop.clock cimport milliseconds
from crest.io.out.backlog cimport ACCEPTING
from crest.io.out.outbox cimport Outbox
from crest.wire.meter cimport DROP
from crest.wire.rfc6455 cimport CLOSE_GOING_AWAY, CLOSE_INTERNAL_ERROR, OPCODE_PONG


cdef class Patience(Closing):
    """Acts on what has not come in time."""

    cpdef expired(self):
        """Act on what has not come in time: the end of the handlers, a request, a sign of life, or the peer's end of
        the connection."""
        if is_lost(self.phase):
            self.abandon()
        elif self.opening is not None:
            self.opening.timed_out()
        elif self.phase == OPEN and self.connection.state == ACCEPTING:
            self.beat()
            if self.paused and self.reader.meter is not None:
                self.call_soon(self._read_on)  # its rate may allow more now
        elif self.connection is None and self.is_taking():
            self.holds(0)
            self.set_deadline(OPENING_LINGER)
        elif self.phase != OPEN or self.at_end:
            self.transport.abort()

    cdef Terms terms(self) noexcept:
        return Terms(self.hub.ping_interval, self.hub.ping_timeout, self.hub.idle_timeout)

    cdef int beat(self) except -1:
        """Act on the verdict on the peer, for whose sake the deadline has expired."""
        cdef uint32_t now = milliseconds(self.turn.clock)
        cdef int verdict
        if self.paused or is_busy(self.inbox):
            self.pulse.spoke = now  # the peer may await an answer, or have sent a message that is not read
        verdict = judge(self.pulse, self.terms(), now)
        if verdict == UNANSWERED:
            if is_silent(self.transport, &self.seen) if self.paused \
                    else not (has_input(self.transport) or self.takes_output()):
                return self.call_soon(self._ping_timed_out)
            hear(&self.pulse, now)
            verdict = judge(self.pulse, self.terms(), now)
        if verdict == IDLE:
            if not has_input(self.transport):
                return self.call_soon(self._idle_timed_out)
            self.pulse.spoke = now
            verdict = judge(self.pulse, self.terms(), now)
        if verdict == ASK:
            self.ask(now)
        return self.await_next(now)

    cdef int ask(self, uint32_t now) except -1:
        """Have the peer give a sign of life. A peer that has yet to take what was sent before needs no ping for that.
        One that is not read gets a pong, which wants no answer (RFC 6455 section 5.5.3)."""
        cdef Outbox connection = self.connection
        if not connection.blocked and not self.paused:
            connection.push_ping()
        elif not connection.blocked:
            connection.push_frame(OPCODE_PONG, "", 0, None)
        if not self.hub.ping_timeout:
            self.pulse.heard = now
            return 0
        self.pulse.asked = now or 1
        is_silent(self.transport, &self.seen) if self.paused else self.takes_output()
        return 0

    cdef int await_next(self, uint32_t now) except -1:
        """Set the deadline for what is due next."""
        cdef uint32_t wait
        if self.connection.state == ACCEPTING:
            wait = due(self.pulse, self.terms(), now)
            if wait != UINT32_MAX:
                self.set_deadline(wait / 1000.0)
        return 0

    cdef bint takes_output(self) except -1:
        """True if the peer has taken some of what was sent since the last look, and more of it is pending."""
        return self.connection.leaves(self.transport.get_write_buffer_size()) | acknowledges(self.transport, &self.seen)

    def _ping_timed_out(self):
        if self.pulse.asked and self.connection.state == ACCEPTING:
            self.fail(CLOSE_INTERNAL_ERROR, f"ping timeout: nothing came for {self.hub.ping_timeout / 1000.0:g} s")

    def _idle_timed_out(self):
        if self.connection.state == ACCEPTING:
            self.close(CLOSE_GOING_AWAY, f"idle: no message came for {self.hub.idle_timeout / 1000.0:g} s")

    # ---- Rates ---------------------------------------------------------------------------------------------------

    cdef bint must_wait(self) except -1:
        """True if tokens are lacking even after a refill; then reading has paused until there are some."""
        cdef double seconds
        if self.connection.state != ACCEPTING:
            self.reader.meter.excess = DROP
            return False
        seconds = wait_for_tokens(self.reader, milliseconds(self.turn.clock), self.paused)
        if not seconds:
            return False
        self.hold()
        self.set_deadline(seconds)
        return True
