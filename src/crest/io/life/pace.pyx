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

from crest.wire.frames cimport FrameReader
from crest.wire.meter cimport Meter
from crest.wire.rfc6455 cimport OPCODE_CONTINUATION

cdef double STEP = 0.05     # seconds: the clock's tick; a pause lasts a whole number of them


cdef double wait_for_tokens(FrameReader reader, uint32_t now, bint paused) except -1:
    """Return the seconds for which a client that is over its rate is not to be read; 0: it has tokens after a refill.

    Args:
        now: Milliseconds, by the loop's clock.
        paused: The client was not read until now, so that what comes next may have been sent at any time of the pause.
    """
    cdef Meter meter = reader.meter
    cdef bint within = reader.message_opcode != OPCODE_CONTINUATION
    if paused:
        meter.excuse(now)
    else:
        meter.refill(now)
    return ceil(meter.delay(within) / STEP) * STEP if is_used_up(meter, within) else 0
