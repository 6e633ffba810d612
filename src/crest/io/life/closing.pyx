"""The end of a connection: the closing handshake (RFC 6455 section 7), and the end of the TCP connection after it.

Step by step:

1. This side or the peer sends the first close frame (`start_closing`, `fail`, `peer_closed`), or the transport is lost.
2. Reading ends, and on_close is delivered, once (`finish`).
3. When all is sent, the writing half is shut down, so that the peer can still read it. The peer's end of stream is
   awaited for `close_timeout` (`linger`).
4. The transport's `connection_lost` comes last.
"""

from libc.stdint cimport uint8_t, uint32_t

from functools import partial

from crest.io.life.calls cimport CLOSE, ERROR, Event, call, log_close
from crest.io.life.inbox cimport Inbox, is_busy
from crest.io.life.intake cimport REQUESTS
from crest.io.life.phase cimport CLOSE_SENT, ENDED, LINGERING, OPEN, is_lost
from crest.io.life.reading cimport Reading
from crest.io.life.signs cimport takes_response
from crest.io.life.watch cimport begin_service, end_service
from crest.io.loop.clock cimport TRIES
from crest.wire.rfc6455 cimport CLOSE_TRY_AGAIN_LATER, MAX_CLOSE_REASON

from crest.io.life.calls import ErrorText


cdef class Closing(Reading):
    """Carries out the end of one connection, and delivers events until then."""

    cdef int deliver(self, Event event, object first, object second) except -1:
        """Handle an event now, or after those that came before it."""
        cdef uint8_t awaited = event
        if is_busy(self.inbox):
            return self.inbox.put(event, first, second)
        result = call(self, event, first, second, &awaited)
        return 0 if result is None else self.await_result(<Event>awaited, result)

    cdef int await_result(self, Event event, object awaitable) except -1:
        """Have what an async handler returned awaited; further events wait meanwhile."""
        cdef Inbox inbox = self.inbox  # a reference of its own: `handled` may let go of the other one
        if inbox is None:
            inbox = self.inbox = Inbox.__new__(Inbox, self.turn.budget, self)
        return inbox.begin(event, awaitable)

    # ---- The closing handshake -----------------------------------------------------------------------------------

    cdef bint start_closing(self, int code, str reason) except -1:
        """Send the first close frame. False if one was sent before, or if the peer would not get it."""
        if self.phase != OPEN:
            return False
        self.set_deadline(self.hub.close_timeout)
        self.connection.stop()
        if not self.connection.overflowed:  # else fail() follows; broadcasts of this turn may have overflowed it
            self.send_close(code, reason)
        return True

    cdef int send_close(self, int code, str reason) except -1:
        """Send a close frame, or cut the connection if there is no memory for it."""
        cdef bytes encoded
        self.step(CLOSE_SENT)
        try:
            encoded = reason.encode()[:MAX_CLOSE_REASON].decode(errors="ignore").encode()
            self.connection.push_close(code, encoded)
        except MemoryError:
            self.connection.stop()
            self.abort()
        return 0

    cdef int peer_closed(self, int code, str reason) except -1:
        """Answer the peer's close frame with the same code (section 5.5.1), unless the frame is itself the answer."""
        if self.phase == OPEN:
            self.send_close(code, reason)
        self.finish(code, reason)
        return self.linger()

    cdef int fail(self, int code, str error) except -1:
        if self.phase >= LINGERING:
            return 0
        if code == CLOSE_TRY_AGAIN_LATER:
            code = self.turn.busy_code
        if self.phase == OPEN:
            self.send_close(code, error)
        try:
            try:
                self.deliver(ERROR, ErrorText(error), None)
            finally:
                self.finish(code, error)
            self.linger()
        except BaseException:
            self.abort()
            raise
        return 0

    cdef int fail_soon(self, int code, str error) except -1:
        """Have the loop fail the connection: handlers run only within the loop's calls for their connection."""
        callback = partial(self._fail, code, error)
        self.turn.loop.call_soon(callback) if is_lost(self.phase) else self.call_soon(callback)
        return 0

    def _fail(self, int code, str error):
        self.fail(code, error)

    cdef int close(self, int code, str reason) except -1:
        if self.start_closing(code, reason):
            self.deaf = True
            if self.inbox is not None:
                self.inbox.deaf = True
            if self.paused:
                self.turn.loop.call_soon(self._read_on)
        return 0

    def _read_on(self):
        cdef uint32_t since = begin_service(self.hub, self.turn.clock)
        self.has_room()
        end_service(self.hub, self.turn.clock, self.connection, since)

    cdef int finish(self, int code, str reason) except -1:
        """Deliver on_close, once. MemoryError: it is not delivered yet, and the caller may try again."""
        cdef object boxed = code
        if self.phase >= LINGERING:
            return 0
        if not is_busy(self.inbox):
            self.step(ENDED)  # before a handler is called
        self.deliver(CLOSE, boxed, reason)
        if self.phase < LINGERING:
            self.step(ENDED)
        self.unread = None
        self.hub.tally.count_close(code)
        return log_close(self, code, reason)

    cdef int linger(self) except -1:
        """Close the TCP connection such that the peer gets all that was sent.

        If the socket were closed now, with bytes of the peer unread, the kernel would reset the connection. The reset
        can overtake the close frame."""
        if is_lost(self.phase):
            return 0
        self.set_deadline(self.hub.close_timeout)
        self.unpause()
        if self.connection.count or self.connection.blocked:
            self.connection.tell_drained = True
            return 0
        return self.drained()

    cdef int drained(self) except -1:
        # Later, not now: asyncio's transports do not expect to be closed from within resume_writing.
        self.turn.loop.call_soon(self._end_writing)
        return 0

    def _end_writing(self):
        """Shut the writing half down, as everything is sent. If the peer has closed its own half, or the transport has
        no halves, close the connection."""
        if self.is_closing():
            return
        if self.at_end or not self.transport.can_write_eof():
            self.transport.close()
            return
        try:
            self.transport.write_eof()
        except OSError:  # the peer has reset it, and the loop's transport has not noticed yet
            self.transport.abort()

    cpdef bint is_taking(self) except -1:
        """True if a plain HTTP client has taken some of its response since the last call, and more is pending."""
        return takes_response(self.transport, &self.seen)

    def holds(self, size_t size):
        """Count what is kept before the upgrade, in place of the last count.

        Args:
            size: bytes of requests. Responses are found in the transport, if it will tell when they are taken.
        """
        cdef size_t waiting
        if self.transport is not None:
            waiting = self.transport.get_write_buffer_size()
            if waiting > <size_t>self.transport.get_write_buffer_limits()[1]:
                size += waiting
            self.keep(REQUESTS, size)

    cdef int call_soon(self, object callback) except -1:
        # The loop's own transports do not tell their context (None): the loop then takes the caller's.
        self.turn.loop.call_soon(callback, context=self.transport.get_extra_info("context"))
        return 0

    cdef int abort(self) except -1:
        if self.transport is not None:
            self.transport.abort()
        return 0

    # ---- Behind the last handler -----------------------------------------------------------------------------------

    cdef int handled(self) except -1:
        if self.inbox is not None and self.inbox.is_empty():
            self.inbox = None
        if is_lost(self.phase) and (self.connection is None or self.turn.corked is not self.connection):
            self.let_go()  # else it is being read
        return 0

    cdef int let_go(self) except -1:
        """Tell the site that the connection is gone, and all of it is handled. Without memory this is tried again."""
        cdef int tries
        self.clear_deadline()
        for tries in range(TRIES, 0, -1):
            try:
                self.site.ended(self)
                break
            except MemoryError:
                if tries == 1:
                    raise
        return 0

    cdef int abandon(self) except -1:
        """Cancel the handler that runs, if any: the connection has ended, and its handlers had time to end, too."""
        cdef Inbox inbox = self.inbox
        return 0 if inbox is None else inbox.abandon()

    cdef bint farewell(self) except -1:
        parting = self.site.farewell() if self.site is not None else None
        if parting is None:
            return False
        self.close(parting[0], parting[1])
        return True

    # ---- Deadlines -------------------------------------------------------------------------------------------------

    cpdef set_deadline(self, double seconds):
        """Have `expired` called in so many seconds, in place of the deadline before."""
        self.turn.clock.start(self, seconds)

    cpdef clear_deadline(self):
        """Have `expired` not called: what was awaited has come."""
        self.turn.clock.cancel(self)
