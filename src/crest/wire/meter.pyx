"""How much a client may send: messages and bytes a second. Sans-I/O: it is told the time.

Two token buckets. Each fills at its rate, up to what may come at once (the burst), and what comes takes tokens out:

a message            one message, however many frames it has
a ping, or a pong    one message; a pong that answers a ping of the server's none, which is for the caller to know
an empty fragment    one message, unless it begins one (which counts already) or ends one
any frame            its bytes, header included, payload as it comes: masked and compressed
compressed payload   what it inflates to, beside that, where the rates say so
a close frame        nothing: nothing comes after it

What has no tokens fails the connection; or its message is dropped, and costs nothing from there on; or it is taken
nevertheless, and nothing more is read until the tokens that it owes have come (`Excess`). A control frame can not be
dropped: where messages are, it owes its tokens, up to what may come at once.

Payload is counted as it comes, not as it is announced, so a long message may take as long as its bytes need. It is
metered by the chunk, before it is looked at. A text may be both not UTF-8 and past the bytes a second: then the end of
a chunk can decide whether 1007 or 1008 fails it, but never whether one does.
"""

cimport cython
from libc.math cimport INFINITY
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from crest.wire.rfc6455 cimport OPCODE_CLOSE, OPCODE_CONTINUATION, OPCODE_PONG


EXCESSES = "close", "drop", "wait"  # in the order of meter.pxd's Excess


@cython.final
cdef class Rates:
    """The limits of one server's connections, each for itself.

    Args:
        max_message_rate: messages a second, and how many at once; None: any number.
        max_byte_rate: the same of bytes.
        count_inflated: whether the bytes that compressed payload inflates to count, too.
        on_rate: what happens to what comes over them, one of EXCESSES.
    """

    def __cinit__(self, max_message_rate=None, max_byte_rate=None, bint count_inflated=False, str on_rate="close"):
        self.count_inflated = count_inflated
        self.excess = EXCESSES.index(on_rate)
        self.max_message_rate, self.max_byte_rate = max_message_rate, max_byte_rate
        self.messages_at_once = self.bytes_at_once = INFINITY
        if max_message_rate is not None:
            self.messages, self.messages_at_once = max_message_rate[0] / 1000, max_message_rate[1]
        if max_byte_rate is not None:
            self.bytes, self.bytes_at_once = max_byte_rate[0] / 1000, max_byte_rate[1]


@cython.final
@cython.no_gc  # Rates refer to nothing but tuples of numbers
cdef class Meter:
    """Counts what one client may still send; a whole burst at first.

    Args:
        rates: of the server.
        now: milliseconds modulo 2**32, by the clock that `refill` is told.
    """

    def __cinit__(self, Rates rates not None, uint32_t now=0):
        self.rates = rates
        self.messages, self.bytes = rates.messages_at_once, rates.bytes_at_once
        self.since = now
        self.excess = rates.excess

    cpdef void refill(self, uint32_t now) noexcept:
        """Add the tokens of the time until now, up to the burst: something has come."""
        cdef uint32_t gone = now - self.since
        self.since = now
        self.messages = filled(self.messages, gone * self.rates.messages, self.rates.messages_at_once)
        self.bytes = filled(self.bytes, gone * self.rates.bytes, self.rates.bytes_at_once)

    cpdef void excuse(self, uint32_t now) noexcept:
        """Add the tokens of a time in which the client was not read, without an upper bound. What comes next may be
        what it sent meanwhile, all of it within its rate."""
        cdef uint32_t gone = now - self.since
        self.since = now
        self.messages += gone * self.rates.messages
        self.bytes += gone * self.rates.bytes

    cdef bint takes_frame(self, uint8_t opcode, bint fin, uint64_t size) noexcept:
        """True if a frame with this header may come."""
        if opcode == OPCODE_CLOSE:
            return True
        if opcode > OPCODE_CLOSE:
            return self.takes_control(opcode != OPCODE_PONG, head_size(size))
        if self.dropping:
            return True
        return takes(self, opcode != OPCODE_CONTINUATION or not (size or fin), head_size(size))

    cdef bint takes_payload(self, uint8_t opcode, uint64_t size) noexcept:
        """True if so many bytes of a frame's payload may come."""
        if opcode >= OPCODE_CLOSE:
            return opcode == OPCODE_CLOSE or self.takes_control(0, size)
        return self.dropping or takes(self, 0, size)

    cdef bint takes_inflated(self, uint64_t size) noexcept:
        """True if compressed payload may inflate to so many bytes."""
        return self.dropping or not self.rates.count_inflated or takes(self, 0, size)

    cdef bint takes_control(self, double messages, double bytes) noexcept:
        """True if something may come that is no part of a message."""
        if takes(self, messages, bytes):
            return True
        if self.excess != DROP or self.messages - messages < -self.rates.messages_at_once \
                or self.bytes - bytes < -self.rates.bytes_at_once:
            return False
        self.messages -= messages
        self.bytes -= bytes
        return True

    cdef bint overdraws(self, double messages, double bytes) noexcept:
        """True if tokens that are not there may be owed; then they are."""
        self.out_of_messages = self.messages < messages
        if self.excess != WAIT:
            return False
        self.messages -= messages
        self.bytes -= bytes
        return True

    cdef double delay(self, bint within) noexcept:
        """Return the seconds until the tokens have come that `is_used_up` asks for, if none are taken meanwhile."""
        cdef double messages = 0, bytes = 0
        if self.messages < 1 and not within:
            messages = (1 - self.messages) / self.rates.messages
        if self.bytes <= 0:
            bytes = (1 - self.bytes) / self.rates.bytes
        return max(messages, bytes) / 1000

    cdef str told(self):
        """Say which limit the last refusal was for."""
        if self.out_of_messages:
            name, limit = "message", self.rates.max_message_rate
        else:
            name, limit = "byte", self.rates.max_byte_rate
        return f"over max_{name}_rate: {limit[0]:.15g} {name}s a second, {limit[1]:.15g} at once"


cdef inline double filled(double level, double gain, double most) noexcept:
    """Return the level of a bucket that takes in `gain`. What it has over `most`, by `excuse`, it keeps."""
    return level if level >= most else min(level + gain, most)
