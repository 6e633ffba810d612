# The events of one connection that wait for their handlers; see inbox.pyx.

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint64_t

from crest.io.life.intake cimport Intake, is_over
from crest.io.loop.turn cimport Turn
from crest.io.out.backlog cimport Owner
from crest.io.out.hub cimport Hub
from crest.io.out.outbox cimport Outbox

# The events that handlers are called for.
cdef enum Event:
    CONNECT
    MESSAGE
    BINARY
    CLOSE
    ERROR
    DRAIN


cdef class Inbox(Owner):
    cdef readonly Turn turn
    cdef Hub hub
    cdef readonly Outbox connection
    cdef Intake intake          # events behind the one that `task` awaits, and other memory; None: nothing waits
    cdef object task            # awaits handlers; None: the next event is handled at once
    cdef uint8_t begun          # the task has taken its first step: if it is cancelled before, it never does
    cdef uint8_t abandoned         # messages that wait are not handled any more: their time is over
    cdef uint8_t deaf           # messages are not handled any more: the application has called close()
    cdef uint8_t drain_waits    # a DRAIN event is in the queue
    cdef uint8_t awaited        # the Event of the awaitable that `call` returned: ERROR if it is on_error's

    cdef uint64_t max_backlog(self, uint64_t usual) noexcept
    cdef int log_mistake(self, object text) except -1
    cdef int log_error(self, str text, BaseException error) except -1
    cdef int log_close(self, int code, str reason) except -1
    cdef int relieved(self) except -1
    cdef int keep(self, int kind, uint64_t size) except -1
    cdef tuple next_event(self)
    cdef int deliver(self, Event event, object first, object second) except -1
    cdef object call(self, Event event, object first, object second)
    cdef object awaitable_of(self, Event event, object handler, PyObject* returned)
    cdef object handler_failed(self, Event event, str name, BaseException error)
    cdef object begin_task(self, Event event, object awaitable)
    cdef int await_result(self, Event event, object awaitable) except -1
    cdef int broke_off(self, Exception error) except -1
    cdef object await_failed(self, Event event, object awaitable, BaseException error)
    cdef int look_after(self, bint collectable) except -1
    cdef int abandon(self) except -1
    cdef int has_room(self) except -1
    cdef int idle(self) except -1
    cdef bint leaves_loop(self) except -1


cdef inline bint is_full(Inbox inbox) noexcept:
    """True if so many events wait that no more should be read, or there is no budget for more."""
    return inbox.intake is not None and inbox.intake.count \
        and (inbox.intake.count >= inbox.hub.max_queue or is_over(inbox.intake))
