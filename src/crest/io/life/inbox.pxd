# What has come on one connection and waits for its handlers; see inbox.pyx.

from libc.stdint cimport uint8_t

from crest.io.life.calls cimport Event
from crest.io.life.host cimport Host
from crest.io.life.intake cimport Intake


cdef class Inbox(Intake):
    cdef object task            # awaits handlers; None: the next event is handled at once
    cdef uint8_t started          # the task has taken its first step: if it is cancelled before, it never does
    cdef uint8_t abandoned      # events that wait are not handled any more, except on_close: their time is over
    cdef uint8_t deaf           # messages that wait are not handled any more
    cdef uint8_t drain_waits    # a DRAIN event is in the queue

    cdef bint is_empty(self) noexcept
    cdef int put(self, Event event, object first, object second) except -1
    cdef int begin(self, Event event, object awaitable) except -1
    cdef object begin_task(self, Event event, object awaitable)
    cdef object next_awaitable(self, uint8_t* event)
    cdef object await_failed(self, Event event, object awaitable, BaseException error)
    cdef int broke_off(self, Exception error) except -1
    cdef int abandon(self) except -1


cdef inline bint is_busy(Inbox inbox) noexcept:
    """True if a task awaits handlers: what comes has to wait."""
    return inbox is not None and inbox.task is not None


cdef inline bint is_full(Inbox inbox) noexcept:
    """True if so many events wait that no more should be read, or there is no budget for more."""
    return inbox is not None and inbox.count \
        and (inbox.count >= inbox.host.hub.max_queue or inbox.budget.used > inbox.budget.limit)
