# What the connections of one event loop share within a turn of it; see turn.pyx.

from crest.cpython cimport PyThreadState_Get
from crest.io.loop.budget cimport Budget
from crest.io.loop.clock cimport Clock
from crest.io.loop.poller cimport Poller

cdef class Block:
    cdef char* data
    cdef size_t used
    cdef readonly size_t room
    cdef Budget budget          # None: not counted


cdef class Pending:
    cdef unsigned char due      # listed in Turn.due
    # These two fill a hole between fields: this is part of the size of an idle connection.
    cdef unsigned char given    # listed in a Handout
    cdef unsigned int mark      # of the last pass over many that came by
    cdef int flush(self) except -1


cdef class Turn:
    cdef readonly object loop
    cdef readonly Clock clock
    cdef readonly Budget budget  # of what waits
    cdef readonly int busy_code  # close code for a peer that should come again later
    cdef public Poller poller   # None: there is none
    cdef dict vigils            # Vigil, by protocol, for paused transports of the loop's; see reading.pyx
    cdef readonly bytearray read_buffer
    cdef object read_view       # of all of it
    cdef void* thread           # the loop's thread, as CPython knows it
    cdef int process            # the process that this was made in
    cdef list due
    cdef bint scheduled
    cdef Block arena
    cdef Pending corked         # Protocol.read flushes it itself, when its chunk has been read
    cdef unsigned int sections  # how many have begun and not ended
    cdef list delayed           # (callable, arguments) that were called within; None: nothing

    cdef int add(self, Pending pending) except -1
    cdef int flush_all(self) except -1
    cdef char* reserve(self, size_t size) except NULL
    cdef int make_up(self) except -1
    cdef bint was_forked(self) noexcept


cdef inline bint must_wait(Turn turn) noexcept:
    """True if the caller may not change what is sent now: then `Turn.call_later` carries its call out."""
    return PyThreadState_Get() != turn.thread or turn.sections


cdef inline void begin_section(Turn turn) noexcept:
    """Begin a section; `end_section` must follow, whatever happens in between."""
    turn.sections += 1


cdef inline int end_section(Turn turn) except -1:
    """End a section. If it was the outermost one, carry out the calls that came within."""
    if turn.sections == 1 and turn.delayed is not None:
        turn.make_up()
    turn.sections -= 1
    return 0
