"""Handlers that block the loop: while one runs nothing else does, so the log names it when it takes too long.

Two times are measured. One is the time that one connection is served: two looks at a cheap clock for all the messages
of one read, and a count of each handler's calls. The other is the time of each step of an async handler, from one
`await` to the next. The report says no more than is known that way: that handlers took so long together, in so many
calls.
"""

cimport cython
from libc.stdint cimport UINT32_MAX, uint32_t

from inspect import unwrap
import logging

from crest.io.life.calls cimport name_of
from crest.io.out.hub cimport Hub
from crest.io.out.outbox cimport Outbox

logger = logging.getLogger("crest")


@cython.final
cdef class Steps:
    """An awaitable in place of the one that an async handler returned: it measures each step."""

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        cdef uint32_t since = self.begin()
        try:
            return next(self.steps)
        finally:
            self.end(since)

    def throw(self, *error):
        cdef uint32_t since = self.begin()
        try:
            return self.steps.throw(*error)
        finally:
            self.end(since)

    def close(self):
        self.steps.close()

    cdef uint32_t begin(self) except? 0:
        cdef uint32_t since = begin_service(self.hub, self.clock)
        self.hub.calls[self.event] = 1
        return since

    cdef int end(self, uint32_t since) except -1:
        return end_service(self.hub, self.clock, self.connection, since)


cdef object in_steps(object awaitable, Hub hub, Outbox connection, int event):
    """Wrap a handler's awaitable so that its steps are watched; returns it as it is if they are not to be."""
    cdef Steps made
    if hub.slow_handler == UINT32_MAX or not hasattr(awaitable, "__await__"):
        return awaitable
    try:
        made = Steps()
        made.steps = awaitable.__await__()
    except MemoryError:  # then it goes unwatched
        made = None
    if made is None:
        return awaitable
    made.hub = hub
    made.clock = connection.feed.turn.clock
    made.connection = connection
    made.event = event
    return made


cdef int report(Hub hub, Outbox connection, uint32_t elapsed) except -1:
    # In the order of Event.
    handlers = hub.on_connect, hub.on_message, hub.on_binary, hub.on_close, hub.on_error, hub.on_drain
    called = [f"{name_of(handler)}{in_calls(calls)} ({place_of(handler)})"
              for handler, calls in zip(handlers, hub.calls) if calls and handler is not None]
    if called:
        logger.warning("%s: handler %s blocked the loop for %.3g s",
                       connection.get_id(), " and ".join(called), elapsed / 1000.0, extra=connection._log_fields())
    return 0


cdef str in_calls(calls):
    return "" if calls == 1 else f", in {calls} calls,"


cdef str place_of(handler):
    """Find file and line of a function, of a method, or of what either wraps; else the object's type."""
    handler = unwrap(getattr(handler, "__func__", handler))
    handler = getattr(handler, "func", handler)
    code = getattr(handler, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else f"a {type(handler).__qualname__}"
