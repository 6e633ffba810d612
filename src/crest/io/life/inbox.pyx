"""The events of one connection that wait for an async handler, and the task that awaits it.

Events reach the handlers one at a time, in order. A plain function is called directly, and no inbox is there. What an
`async def` returns is awaited in a task. Until that has ended, further events of this connection wait here. The host
asks if too many do (`is_full`), and is told when there is room again (`Host.has_room`), and when nothing waits any more
(`Host.handled`).

An `Inbox` exists only while it holds something or its task runs: an idle connection has none.
"""

cimport cython
from libc.stdint cimport uint8_t

from asyncio import CancelledError, current_task
from inspect import iscoroutine
import logging

from crest.cpython cimport PyObject_GC_IsTracked, PyObject_GC_Track, PyObject_GC_UnTrack
from crest.io.life.calls cimport BINARY, CLOSE, DRAIN, ERROR, MESSAGE, call, handler_failed, log_error, name_of
from crest.io.life.watch cimport in_steps
from crest.io.loop.clock cimport TRIES

from crest.io.loop.forks import end_child

logger = logging.getLogger("crest")


@cython.final
cdef class Inbox(Intake):
    """Holds the events that wait on one connection, and runs the task that works them off; see `Intake` for its
    arguments."""

    cdef bint is_empty(self) noexcept:
        """True if nothing is held and no task runs: then there need be no inbox."""
        return self.task is None and not self.total

    cdef int put(self, Event event, object first, object second) except -1:
        """Have an event wait behind those that do. MemoryError: it does not."""
        self.append(event, first, second)
        if event == DRAIN:
            self.drain_waits = True
        return 0

    cdef int begin(self, Event event, object awaitable) except -1:
        """Have a task await an async handler. Events wait until it, and the events before them, have been handled."""
        cdef object task = None, following = None
        cdef uint8_t awaited = ERROR
        self.started = False
        self.task = self  # anything but None
        look_after(self.host, True)
        try:
            task = self.begin_task(event, awaitable)
        except BaseException as error:  # a task factory has raised it, or there is no memory
            self.task = None
            look_after(self.host, False)
            if self.started:  # the task was eager, and its making failed: nothing will wake the coroutine
                self.host.abort()
                raise
            if iscoroutine(awaitable):
                awaitable.close()
            following = handler_failed(self.host, event, awaitable, error, &awaited)
        if following is not None:
            return self.begin(ERROR, following)
        if self.task is not None:  # an eager task may have come to its end already
            self.task = task
        return 0

    cdef object begin_task(self, Event event, object awaitable):
        """Have the loop await a handler. Without memory this is tried again, or on_close would be lost."""
        cdef object work = None, task = None
        cdef int tries = TRIES
        while task is None:
            tries -= 1
            try:
                if work is None:
                    work = self._work(event, awaitable)
                task = self.host.turn.loop.create_task(work)
            except MemoryError:
                if not self.started and not tries and work is not None:
                    work.close()
                if self.started or not tries:
                    raise
            except BaseException:
                if not self.started and work is not None:
                    work.close()
                raise
        return task

    async def _work(self, uint8_t event, awaitable):
        cdef int tries = TRIES  # for crest's own failures to deliver an event
        cdef Host host = self.host
        self.started = True
        while tries:
            while awaitable is not None:
                try:
                    await in_steps(awaitable, host.hub, host.connection, event)
                    awaitable = None
                except BaseException as error:
                    if isinstance(error, GeneratorExit) and host.connection.feed.turn.loop.is_closed():
                        raise  # the handler has not raised it: this task is being thrown away
                    if host.turn.was_forked():
                        end_child(error)
                    awaitable = self.await_failed(<Event>event, awaitable, error)
                    event = ERROR
            try:
                if self.count <= host.hub.max_queue // 2:
                    host.has_room()
                if not self.count:
                    break
                awaitable = self.next_awaitable(&event)
            except Exception as error:
                tries -= 1
                self.broke_off(error)
        self.task = None
        look_after(host, False)
        host.handled()

    cdef object next_awaitable(self, uint8_t* event):
        """Handle the event that has waited longest, unless its time is over. Returns what has to be awaited, or
        None."""
        kind, first, second, _ = self.pop()
        event[0] = kind
        if event[0] == DRAIN:
            self.drain_waits = False
        if self.abandoned and event[0] != CLOSE or self.deaf and (event[0] == MESSAGE or event[0] == BINARY):
            return None
        return call(self.host, <Event>event[0], first, second, event)

    cdef object await_failed(self, Event event, object awaitable, BaseException error):
        """Deal with what an async handler has raised. Returns what has to be awaited next, or None."""
        cdef Host host = self.host
        cdef uint8_t awaited  # on_error's, if anything is
        try:
            if not isinstance(error, CancelledError):
                return handler_failed(host, event, awaitable, error, &awaited)
            if current_task() is not None:
                current_task().uncancel()
            if self.abandoned:
                logger.warning("%s: handler %s was cancelled, %g s after the connection ended",
                               host.connection.get_id(), name_of(awaitable), host.hub.close_timeout,
                               extra=host.connection._log_fields())
            elif not host.farewell():
                return handler_failed(host, event, awaitable, error, &awaited)
        except Exception as another:
            self.broke_off(another)
        return None

    cdef int broke_off(self, Exception error) except -1:
        """Cut the connection: crest itself has failed to deliver an event, for want of memory most likely."""
        self.host.abort()
        return log_error(self.host, "the connection is cut off", error)

    cdef int abandon(self) except -1:
        """Cancel the handler that runs, and skip the events that wait, except on_close."""
        self.abandoned = True
        if self.task is not None:
            if self.started:
                self.task.cancel()
            else:
                self.host.turn.loop.call_soon(self._abandon)
        return 0

    def _abandon(self):
        self.abandon()


cdef int look_after(Host host, bint collectable) except -1:
    """Have the garbage collector visit a connection, or no longer. It needs to only while a task may refer back to it;
    see `Outbox.collectable`."""
    if collectable:
        host.connection.collectable()
        if not PyObject_GC_IsTracked(host):
            PyObject_GC_Track(host)
    else:
        PyObject_GC_UnTrack(host)
    return 0
