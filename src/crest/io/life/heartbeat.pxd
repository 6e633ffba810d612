# What a connection's signs of life mean; see heartbeat.pyx.

from libc.stdint cimport uint32_t

# Milliseconds by the loop's clock, modulo 2**32.
cdef struct Pulse:
    uint32_t heard      # when bytes came last, or there was another sign of life
    uint32_t spoke      # when a message came last
    uint32_t asked      # when the last ping was sent, if nothing has come since; else 0

# Milliseconds; 0: off.
cdef struct Terms:
    uint32_t interval   # without a sign of life, before the peer is asked for one
    uint32_t timeout    # for the answer
    uint32_t idle       # without a message

cpdef enum Verdict:
    NOTHING
    ASK             # the peer is to be asked for a sign of life
    UNANSWERED      # it was asked, and none has come in time
    IDLE            # no message has come in time

cpdef uint32_t due(Pulse pulse, Terms terms, uint32_t now) noexcept
cpdef int judge(Pulse pulse, Terms terms, uint32_t now) noexcept


cdef inline void hear(Pulse* pulse, uint32_t now) noexcept:
    """Note a sign of life."""
    pulse.heard = now
    pulse.asked = 0
