"""Whether a peer is still there: pings, and the time-outs for a peer that is silent.

Anything that comes is a sign of life. A peer that has sent nothing for `ping_interval` is asked for one with a ping
(RFC 6455 section 5.5.2); if nothing has come `ping_timeout` after that, the connection is failed. A peer from which no
message has come for `idle_timeout` is one to part from, however well it answers pings.

A read only notes the time. The connection's one deadline, on the loop's one timer, finds out what that means when it
expires: that it is to be set again for what is left, most of the time.

A peer is not to blame for what it could not say, or what was not listened to. It has not failed to answer while bytes
of it are unread (a handler blocks the loop), or while it is still taking what was sent before the ping (it is slow).

While crest itself does not read (an async handler of this peer has too much to do), bytes that are unread say nothing:
they may be old, and the answer to a ping may have no room behind them. The peer's kernel still acknowledges what is
sent. So that is a pong, which wants no answer (section 5.5.3). The peer is alive unless its kernel owes an
acknowledgement and nothing at all has come. Where crest's kernel does not tell, its own time-out for what is not
acknowledged ends the connection.
"""

from libc.stdint cimport UINT32_MAX, uint32_t

from crest.io.backlog cimport OPEN
from crest.io.clock cimport milliseconds
from crest.io.hub cimport Hub
from crest.io.inbox cimport Inbox
from crest.io.outbox cimport Outbox
from crest.io.poller cimport Pollable
from crest.wire.rfc6455 cimport CLOSE_GOING_AWAY, CLOSE_INTERNAL_ERROR, OPCODE_PONG

cdef extern from "net.h" nogil:
    bint crest_has_input(int fd)
    bint crest_takes_output(int fd, uint32_t* acknowledged)
    bint crest_is_silent(int fd, uint32_t* exchanged)

cdef uint32_t LEAST = 50        # milliseconds: what is left of a time is awaited at least so long; the clock's tick
cdef uint32_t INEXACT = 20      # milliseconds: twice what a clock that is looked at cheaply may be late


cdef class Heartbeat(Inbox):
    """The signs of life of one connection. Its deadline is this while the connection is open."""

    cdef bint is_reading(self) except -1:
        """Whether what the peer sends is read."""
        raise NotImplementedError

    cdef int begin(self) except -1:
        """The connection is open."""
        cdef uint32_t now = milliseconds(self.connection.feed.turn.clock)
        self.heard = self.spoke = now
        return self.await_next(now)

    cdef int beat(self) except -1:
        """The deadline expires: see what that means."""
        cdef Hub hub = self.hub
        cdef uint32_t now = milliseconds(self.connection.feed.turn.clock)
        if self.task is not None or not self.is_reading():
            self.spoke = now  # it may be waiting for an answer, or have said something that is not read
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
        """A pong has come. Whether it is the answer to the last ping; nobody has asked for any other."""
        if not self.connection.pong(payload):
            return False
        self.await_next(self.heard)
        return True

    cdef int ask(self, uint32_t now) except -1:
        """Have the peer give a sign of life. One that has yet to take what was sent before needs no ping for that."""
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
        """True if bytes of the peer wait to be read: the loop was busy. It was not where nothing is read because the
        peer reads nothing."""
        cdef object transport = self.connection.transport
        if isinstance(transport, Pollable) and (<Pollable>transport).stalled:
            return False
        return crest_has_input(descriptor_of(transport))

    cdef bint is_alive(self) except -1:
        if not self.is_reading():
            return not self.is_silent()
        return self.has_input() or self.takes_output()

    cdef bint is_silent(self) except -1:
        """True if nothing has come from the peer's kernel since the last look, though it owes something."""
        return crest_is_silent(descriptor_of(self.connection.transport), &self.acknowledged)

    cdef bint takes_output(self) except -1:
        """Whether the peer has taken something since the last look, of more that was sent before."""
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
    """What is left of a span of time."""
    cdef uint32_t gone = now - since
    return span - gone if gone < span else 0


cdef uint32_t rounded(uint32_t wait, uint32_t span) noexcept:
    """So long or, by a sixteenth at most, shorter: few different times for the clock, the whole span among them."""
    cdef int shift = 0
    if wait == span:
        return wait
    while wait >> shift >= 32:
        shift += 1
    return max(wait >> shift << shift, LEAST)


cdef int descriptor_of(object transport) except? -1:
    """The socket's descriptor, whoever's transport it is; -1: there is none."""
    if isinstance(transport, Pollable):
        return (<Pollable>transport).fd
    sock = transport.get_extra_info("socket")
    return -1 if sock is None else sock.fileno()
