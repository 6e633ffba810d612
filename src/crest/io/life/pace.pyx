"""Holds one client to its rates (`max_message_rate`, `max_byte_rate`), where the client is to wait for them.

The frame reader's meter says when the tokens are used up. Then the client is not read until the meter has tokens again,
as when too many of its messages wait for their handler. Crest's kernel keeps what the client sends. When that is full,
the client's kernel does. The heartbeat goes by what the client's kernel acknowledges meanwhile. The connection's one
deadline ends the pause.

Once the connection is about to end there are no more pauses. Messages over the rate are dropped from then on, and the
close frame behind them is read.
"""

from libc.math cimport ceil
from libc.stdint cimport uint32_t

from crest.io.life.reading cimport Reading
from crest.io.loop.clock cimport milliseconds
from crest.io.out.backlog cimport OPEN
from crest.wire.frames cimport FrameReader
from crest.wire.meter cimport DROP, Meter, is_used_up
from crest.wire.rfc6455 cimport CLOSE_POLICY_VIOLATION, OPCODE_CONTINUATION

cdef double STEP = 0.05     # seconds: the clock's tick; a pause lasts a whole number of them


cdef class Pace(Reading):
    """Holds one client to its rates."""

    cdef bint must_wait(self) except -1:
        """True if tokens are lacking even after a refill; then the pause has begun."""
        cdef Meter meter = self.reader.meter
        cdef bint within = self.reader.message_opcode != OPCODE_CONTINUATION
        cdef uint32_t now
        if self.connection.state != OPEN:
            meter.excess = DROP
            return False
        now = milliseconds(self.turn.clock)
        if self.paused:
            meter.excuse(now)
        else:
            meter.refill(now)
        if not is_used_up(meter, within):
            return False
        self.hold()
        self.set_deadline(ceil(meter.delay(within) / STEP) * STEP)
        return True

    cdef int count_overhead(self, size_t size) except -1:
        """Meter bytes of TLS records that had nothing for the connection, such as KeyUpdates (RFC 8446 section
        4.6.3)."""
        cdef FrameReader reader = self.reader
        reader.meter.refill(milliseconds(self.turn.clock))
        if not reader.meter.takes_control(0, size):
            return self.fail(CLOSE_POLICY_VIOLATION, reader.exceed())
        if is_used_up(reader.meter, True):
            self.must_wait()
        return 0

    cdef int count_pong(self) except -1:
        """Meter a pong that answers no ping: it counts as a message."""
        cdef FrameReader reader = self.reader
        if reader.meter is not None and not reader.meter.takes_control(1, 0):
            self.fail(CLOSE_POLICY_VIOLATION, reader.exceed())
        return 0
