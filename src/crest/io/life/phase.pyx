"""The phases of one connection, and the steps that lead from one to the next.

| phase | UPGRADED | CLOSE_SENT | ENDED | TRANSPORT_LOST |
|---|---|---|---|---|
| OPENING | OPEN | | LINGERING | GONE |
| OPEN | | CLOSING | LINGERING | LOST |
| CLOSING | | | LINGERING | LOST |
| LOST | | | GONE | |
| LINGERING | | | | GONE |
| GONE | | | | |

An empty field stands for a step that changes nothing. So a close frame that comes too late leaves the phase as it is,
and so does a second end. What is done on the way is closing.pyx's and protocol.pyx's business. They compare phases, and
no other flag says how far a connection has come.

Three things are not phases, because they may be true in several: the transport is paused (reading.pyx), the peer has
closed its half (`at_end`), and the application wants no more messages (`deaf`).
"""

from libc.stdint cimport uint8_t

cdef enum:
    PHASES = 6
    STEPS = 4

cdef uint8_t[PHASES][STEPS] table = [
    [OPEN, OPENING, LINGERING, GONE],
    [OPEN, CLOSING, LINGERING, LOST],
    [CLOSING, CLOSING, LINGERING, LOST],
    [LOST, LOST, GONE, LOST],
    [LINGERING, LINGERING, LINGERING, GONE],
    [GONE, GONE, GONE, GONE],
]


cpdef uint8_t after(uint8_t phase, uint8_t step) noexcept:
    """Return the phase that a step leads to."""
    return table[phase][step]
