"""Calls of the application's handlers, and what becomes of what they raise.

What a handler raises goes to the log and to `on_error`, and never further: no handler can stop the server, nor reach
another connection. What an `async def` returns is given back to the caller, which has it awaited (inbox.pyx).
"""

from cpython.object cimport PyObject, PyTypeObject
from libc.stdint cimport uint8_t, uint32_t

from inspect import isawaitable
import logging

from crest.cpython cimport PyObject_Vectorcall, owned
from crest.io.loop.clock cimport milliseconds
from crest.io.out.backlog cimport ACCEPTING
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


cdef object call(Host host, Event event, object first, object second, uint8_t* awaited):
    """Call the handler of an event.

    Returns what has to be awaited, or None. `awaited` is then the event that it belongs to: ERROR if it is on_error's.
    """
    cdef PyObject* arguments[3]
    cdef PyObject* result
    cdef size_t count = 2
    cdef Hub hub = host.hub
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
        if host.connection.blocked or host.connection.state != ACCEPTING:  # it will drain again later, or never
            return None
        handler = hub.on_drain
        count = 1
    else:
        handler = hub.on_error
    if handler is None:
        if event == ERROR:
            log_mistake(host, first)
        return None
    hub.calls[<int>event] += 1
    arguments[0] = <PyObject*>host.connection
    arguments[1] = <PyObject*>first
    arguments[2] = <PyObject*>second
    result = PyObject_Vectorcall(<PyObject*>handler, arguments, count, NULL)
    if result == <PyObject*>None:
        return owned(result)
    return awaitable_of(host, event, handler, result, awaited)


cdef object awaitable_of(Host host, Event event, object handler, PyObject* returned, uint8_t* awaited):
    """Return what a handler returned, if that has to be awaited, else None.

    `returned` is NULL if the handler raised. Then on_error is called, and what that returned counts instead."""
    cdef object awaitable = None
    try:
        result = owned(returned)
        if result is not True and result is not False and isawaitable(result):
            awaitable = result
            awaited[0] = event
    except BaseException as error:
        if host.turn.was_forked():
            end_child(error)
        awaitable = handler_failed(host, event, handler, error, awaited)
    return awaitable


cdef object handler_failed(Host host, Event event, object handler, BaseException error, uint8_t* awaited):
    """Log what a handler raised, and tell on_error. Without an on_error, or if on_error itself raised, close with 1011.

    `handler` is the handler itself, or what it returned. Returns what `call` does."""
    text = f"handler {name_of(handler)} raised {type_of(error)}: {text_of(error)}"
    log_error(host, text, error)
    if event != ERROR and host.hub.on_error is not None:
        return call(host, ERROR, ErrorText(text, error), None, awaited)
    host.close(CLOSE_INTERNAL_ERROR, "internal error")
    return None


# ---- The log ---------------------------------------------------------------------------------------------------------

cdef int log_mistake(Host host, object text) except -1:
    """Log a client's mistake, of which no handler is told. Within PAUSE of the last line, count it for the next."""
    cdef Hub hub = host.hub if host.hub.origin is None else host.hub.origin
    cdef uint32_t now = milliseconds(host.connection.feed.turn.clock)
    if hub.mistakes and now - hub.mistake_told < PAUSE:
        hub.mistakes += 1
        return 0
    others = f" ({hub.mistakes - 1} more before)" if hub.mistakes > 1 else ""
    logger.info("%s: %s%s", host.connection.get_id(), text, others, extra=host.connection._log_fields())
    hub.mistake_told = now
    hub.mistakes = 1
    return 0


cdef int log_error(Host host, str text, BaseException error) except -1:
    """Log a text with a traceback. Without memory for that it is lost, and nothing else is."""
    try:
        logger.error("%s: %s", host.connection.get_id(), text, exc_info=error, extra=host.connection._log_fields())
    except MemoryError:
        pass
    return 0


cdef int log_close(Host host, int code, str reason) except -1:
    """Log the end of the connection, at level DEBUG."""
    if is_enabled_for(DEBUG):
        try:
            logger.debug("%s: closed with %d %s", host.connection.get_id(), code, reason,
                         extra=host.connection._log_fields())
        except MemoryError:
            pass
    return 0


# ---- Names of the application's objects: they may raise anything when they are asked, or return what is no text ------

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


cdef str name_of(object handler):
    """Return the qualified name of a function, or what stands for one."""
    cdef str name
    try:
        found = getattr(handler, "__qualname__", None)
        name = str.__str__(found if type(found) is str else repr(handler))
    except BaseException:
        name = f"(a {type_of(handler)})"
    return name
