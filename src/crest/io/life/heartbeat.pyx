"""The heartbeat of one connection: when its peer is asked for a sign of life, and what its silence means.

Anything that comes is a sign of life. A peer that has sent nothing for `interval` is asked for a sign with a ping
(RFC 6455 section 5.5.2). If nothing has come `timeout` after that, it has not answered. If no message has come for
`idle`, it is idle, however well it answers pings.

A read only notes the time, in a `Pulse`. The connection's one deadline, on the loop's one timer, asks for the verdict
when it expires (`judge`). Most of the time that is NOTHING, and the deadline is set again for what is left (`due`).

Nothing here looks at a socket or acts. protocol.pyx does: it first finds out whether an answer lies unread, or was not
possible (signs.pyx).
"""

from libc.stdint cimport UINT32_MAX, uint32_t

cdef uint32_t LEAST = 50        # milliseconds: a shorter rest of a span is awaited so long; the clock's tick
cdef uint32_t INEXACT = 20      # milliseconds: twice what milliseconds(), the cheap clock, may be late


cpdef int judge(Pulse pulse, Terms terms, uint32_t now) noexcept:
    """Return the Verdict on a peer at a time."""
    if pulse.asked and rest_of(pulse.asked, terms.timeout, now) <= INEXACT:
        return UNANSWERED
    if terms.idle and rest_of(pulse.spoke, terms.idle, now) <= INEXACT:
        return IDLE
    if terms.interval and not pulse.asked and rest_of(pulse.heard, terms.interval, now) <= terms.interval // 16:
        return ASK
    return NOTHING


cpdef uint32_t due(Pulse pulse, Terms terms, uint32_t now) noexcept:
    """Return the milliseconds until the next verdict may be another than NOTHING; UINT32_MAX: it will not be."""
    cdef uint32_t wait = UINT32_MAX
    if pulse.asked:
        wait = rounded(rest_of(pulse.asked, terms.timeout, now), terms.timeout)
    elif terms.interval:
        wait = rounded(rest_of(pulse.heard, terms.interval, now), terms.interval)
    if terms.idle:
        wait = min(wait, rounded(rest_of(pulse.spoke, terms.idle, now), terms.idle))
    return wait


cdef uint32_t rest_of(uint32_t since, uint32_t span, uint32_t now) noexcept:
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
