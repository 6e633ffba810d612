"""The events of one connection that wait for their handlers, and the calls of handlers.

Events reach the handlers one at a time, in order. A plain function is called directly. What an `async def` returns is
awaited in a task. Until that has ended, further events of this connection wait here. The reading side asks if too many
do (`is_full`), and is told when there is room again (`has_room`). What a handler raises goes to the log and to
`on_error`, and never further: no handler can stop the server, nor reach another connection.
"""

from cpython.object cimport PyObject, PyTypeObject
from libc.stdint cimport uint32_t, uint64_t

from asyncio import CancelledError, current_task
from inspect import isawaitable, iscoroutine
import logging

from crest.cpython cimport PyObject_GC_IsTracked, PyObject_GC_Track, PyObject_GC_UnTrack, PyObject_Vectorcall, owned
from crest.io.life.intake cimport Intake
from crest.io.life.watch cimport in_steps, watch, watched
from crest.io.loop.clock cimport TRIES, milliseconds
from crest.io.out.backlog cimport OPEN, Owner
from crest.io.out.hub cimport Hub
from crest.wire.rfc6455 cimport CLOSE_INTERNAL_ERROR

from crest.io.loop.forks import end_child

logger = logging.getLogger("crest")
cdef object is_enabled_for = logger.isEnabledFor
cdef object DEBUG = logging.DEBUG

cdef uint32_t PAUSE = 1000  # milliseconds after a line about a mistake: a client can make as many as it likes


class ErrorText(str):
    """A text for `on_error` that says what went wrong and where.

    Attributes:
        exception: what a handler raised; None when the error was the peer's.
    """

    __slots__ = ("exception",)

    exception: BaseException | None

    def __new__(cls, text, exception=None):
        self = super().__new__(cls, text)
        self.exception = exception
        return self


cdef class Inbox(Owner):
    """The events of one connection on their way to the handlers of its hub."""

    def __cinit__(self, *_):
        self.look_after(False)

    cdef int has_room(self) except -1:
        """Let reading go on: at most half of `max_queue` events wait."""
        raise NotImplementedError

    cdef int idle(self) except -1:
        """Hear that the last event that waited has been handled."""
        raise NotImplementedError

    cdef bint leaves_loop(self) except -1:
        """True if the handler's task was cancelled because the server is about to end; then this closes the
        connection."""
        raise NotImplementedError

    cdef uint64_t max_backlog(self, uint64_t usual) noexcept:
        return usual if self.hub is None else self.hub.max_backlog

    cdef int relieved(self) except -1:
        """Deliver on_drain if the peer, which has taken some of what waited for it, has taken all."""
        cdef uint32_t since
        if self.hub.on_drain is None or self.drain_waits or self.connection.state != OPEN \
                or self.connection.blocked or self.connection.count:
            return 0
        since = watch(self.hub, self.connection.feed.turn.clock)
        self.drain_waits = True
        self.deliver(DRAIN, None, None)
        return watched(self.hub, self.connection.feed.turn.clock, self.connection, since)

    cdef int deliver(self, Event event, object first, object second) except -1:
        """Handle an event now, or after those that came before it."""
        if self.task is not None:
            if self.intake is None:
                self.intake = Intake.__new__(Intake, self.turn.budget, self)
            return self.intake.append(event, first, second)
        result = self.call(event, first, second)
        if result is not None:
            self.await_result(<Event>self.awaited, result)
        return 0

    cdef int keep(self, int kind, uint64_t size) except -1:
        """Have so many bytes of this kind count in the budget from now on."""
        if self.intake is None:
            if not size:
                return 0
            self.intake = Intake.__new__(Intake, self.turn.budget, self)
        self.intake.hold(kind, size)
        if not self.intake.total:
            self.intake = None
        return 0

    cdef tuple next_event(self):
        """Return the event that has waited longest, which counts no longer, or None."""
        cdef tuple found
        if self.intake is None or not self.intake.count:
            return None
        found = self.intake.pop()
        if not self.intake.total:
            self.intake = None
        return found

    cdef object call(self, Event event, object first, object second):
        """Call the handler of an event; returns what has to be awaited, or None."""
        cdef PyObject* arguments[3]
        cdef PyObject* result
        cdef size_t count = 2
        cdef Hub hub = self.hub
        if self.deaf and (event == MESSAGE or event == BINARY):
            return None
        if event == MESSAGE:
            handler = hub.on_message
        elif event == BINARY:
            handler = hub.on_binary
        elif event == CONNECT:
            handler = hub.on_connect
            count = 1
        elif event == CLOSE:
            handler = hub.on_close
            count = 3
        elif event == DRAIN:
            self.drain_waits = False
            if self.connection.blocked or self.connection.state != OPEN:  # it will drain again later, or never
                return None
            handler = hub.on_drain
            count = 1
        else:
            handler = hub.on_error
        if handler is None:
            if event == ERROR:
                self.log_mistake(first)
            return None
        hub.calls[<int>event] += 1
        arguments[0] = <PyObject*>self.connection
        arguments[1] = <PyObject*>first
        arguments[2] = <PyObject*>second
        result = PyObject_Vectorcall(<PyObject*>handler, arguments, count, NULL)
        if result == <PyObject*>None:
            return owned(result)
        return self.awaitable_of(event, handler, result)

    cdef int log_mistake(self, object text) except -1:
        """Log a client's mistake, of which no handler is told. Within PAUSE of the last line, count it for the next."""
        cdef Hub hub = self.hub if self.hub.origin is None else self.hub.origin
        cdef uint32_t now = milliseconds(self.connection.feed.turn.clock)
        if hub.mistakes and now - hub.mistake_told < PAUSE:
            hub.mistakes += 1
            return 0
        others = f" ({hub.mistakes - 1} more before)" if hub.mistakes > 1 else ""
        logger.info("%s: %s%s", self.connection.get_id(), text, others, extra=self.connection._log_fields())
        hub.mistake_told = now
        hub.mistakes = 1
        return 0

    cdef object awaitable_of(self, Event event, object handler, PyObject* returned):
        """Return what a handler returned, if that has to be awaited, else None.

        `returned` is NULL if the handler raised. Then on_error is called, and what that returned counts instead."""
        cdef object awaitable = None
        try:
            result = owned(returned)
            if result is not True and result is not False and isawaitable(result):
                awaitable = result
                self.awaited = event
        except BaseException as error:
            if self.turn.was_forked():
                end_child(error)
            awaitable = self.handler_failed(event, name_of(handler), error)
        return awaitable

    cdef object handler_failed(self, Event event, str name, BaseException error):
        """Log what a handler raised, and tell on_error. Without an on_error, or if on_error itself raised, close with
        1011. Returns what has to be awaited, or None."""
        text = f"handler {name} raised {type_of(error)}: {text_of(error)}"
        self.log_error(text, error)
        if event != ERROR and self.hub.on_error is not None:
            return self.call(ERROR, ErrorText(text, error), None)
        self.close(CLOSE_INTERNAL_ERROR, "internal error")
        return None

    cdef int await_result(self, Event event, object awaitable) except -1:
        """Have a task await an async handler. Events wait until it, and the events before them, have been handled."""
        cdef object task = None, following = None
        self.begun = False
        self.task = self  # anything but None
        self.look_after(True)
        try:
            task = self.begin_task(event, awaitable)
        except BaseException as error:  # a task factory has raised it, or there is no memory
            self.task = None
            self.look_after(False)
            if self.begun:  # the task was eager, and its making failed: nothing will wake the coroutine
                self.abort()
                raise
            if iscoroutine(awaitable):
                awaitable.close()
            following = self.handler_failed(event, name_of(awaitable), error)
        if following is not None:
            return self.await_result(ERROR, following)
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
                task = self.turn.loop.create_task(work)
            except MemoryError:
                if not self.begun and not tries and work is not None:
                    work.close()
                if self.begun or not tries:
                    raise
            except BaseException:
                if not self.begun and work is not None:
                    work.close()
                raise
        return task

    async def _work(self, int event, awaitable):
        cdef int tries = TRIES  # for crest's own failures to deliver an event
        self.begun = True
        while tries:
            while awaitable is not None:
                try:
                    await in_steps(awaitable, self.hub, self.connection, event)
                    awaitable = None
                except BaseException as error:
                    if isinstance(error, GeneratorExit) and self.connection.feed.turn.loop.is_closed():
                        raise  # the handler has not raised it: this task is being thrown away
                    if self.turn.was_forked():
                        end_child(error)
                    awaitable = self.await_failed(<Event>event, awaitable, error)
                    event = ERROR
            try:
                if self.intake is None or self.intake.count <= self.hub.max_queue // 2:
                    self.has_room()
                found = self.next_event()
                if found is None:
                    break
                event, first, second, _ = found
                if self.abandoned and event != CLOSE:
                    continue
                awaitable = self.call(<Event>event, first, second)
                if awaitable is not None:
                    event = self.awaited
            except Exception as error:
                tries -= 1
                self.broke_off(error)
        self.task = None
        self.look_after(False)
        self.idle()

    cdef object await_failed(self, Event event, object awaitable, BaseException error):
        """Deal with what an async handler has raised. Returns what has to be awaited next, or None."""
        try:
            if not isinstance(error, CancelledError):
                return self.handler_failed(event, name_of(awaitable), error)
            if current_task() is not None:
                current_task().uncancel()
            if self.abandoned:
                logger.warning("%s: handler %s was cancelled, %g s after the connection ended",
                               self.connection.get_id(), name_of(awaitable), self.hub.close_timeout,
                               extra=self.connection._log_fields())
            elif not self.leaves_loop():
                return self.handler_failed(event, name_of(awaitable), error)
        except Exception as another:
            self.broke_off(another)
        return None

    cdef int broke_off(self, Exception error) except -1:
        """Cut the connection: crest itself has failed to deliver an event, for want of memory most likely."""
        self.abort()
        return self.log_error("the connection is cut off", error)

    cdef int log_error(self, str text, BaseException error) except -1:
        """Log a text with a traceback. Without memory for that it is lost, and nothing else is."""
        try:
            logger.error("%s: %s", self.connection.get_id(), text, exc_info=error, extra=self.connection._log_fields())
        except MemoryError:
            pass
        return 0

    cdef int log_close(self, int code, str reason) except -1:
        """Log the end of the connection, at level DEBUG."""
        if is_enabled_for(DEBUG):
            try:
                logger.debug("%s: closed with %d %s", self.connection.get_id(), code, reason,
                             extra=self.connection._log_fields())
            except MemoryError:
                pass
        return 0

    cdef int look_after(self, bint collectable) except -1:
        """Have the garbage collector visit this connection, or no longer. It needs to only while a task may refer back
        to it; see `Outbox.collectable`."""
        if collectable:
            self.connection.collectable()
            if not PyObject_GC_IsTracked(self):
                PyObject_GC_Track(self)
        else:
            PyObject_GC_UnTrack(self)
        return 0

    cdef int abandon(self) except -1:
        """Cancel the handler that runs, and skip the events that wait, except on_close. The connection has ended, and
        its handlers had time to end, too."""
        self.abandoned = True
        if self.task is not None:
            if self.begun:
                self.task.cancel()
            else:
                self.connection.feed.turn.loop.call_soon(self._abandon)
        return 0

    def _abandon(self):
        self.abandon()


# Names of the application's objects. Those may raise anything when they are asked, or return what is no text.

cdef str text_of(BaseException error):
    cdef str text
    try:
        text = str.__str__(str(error))
    except BaseException as another:
        text = f"(its text raised {type_of(another)})"
    return text


cdef str type_of(value):
    """Return the name of its type, as C knows it, whatever its metaclass says."""
    cdef object kind = type(value)
    return (<PyTypeObject*>kind).tp_name.decode(errors="replace").rpartition(".")[2]


cdef str name_of(handler):
    cdef str name
    try:
        found = getattr(handler, "__qualname__", None)
        name = str.__str__(found if type(found) is str else repr(handler))
    except BaseException:
        name = f"(a {type_of(handler)})"
    return name
