"""The methods that are called for each message, as CPython calls them fastest.

`send` and `send_binary`: CPython's bytecode calls a method directly only if the instance is of just the type that
defines it. So a subclass of `Outbox` gets the two as methods of its own. As long as only the message is passed, there
are no arguments to parse, which saves a `send` 20 instructions. Calls with other arguments go to the `Outbox`'s own
method, which understands or refuses them.

Broadcasts: to look up the defaults of two keyword-only arguments costs a plain Python function 400 instructions.
"""

cimport cython

from cpython.bytes cimport PyBytes_AS_STRING
from cpython.object cimport PyObject, PyTypeObject

from crest.cpython cimport (
    METH_FASTCALL,
    METH_KEYWORDS,
    PyDescr_NewMethod,
    PyMethodDef,
    PyMethodDescrObject,
    PyUnicode_CheckExact,
)
from crest.io.out.arguments cimport as_bytes, utf8_of
from crest.io.out.hub cimport Hub
from crest.io.out.outbox cimport Outbox
from crest.wire.rfc6455 cimport OPCODE_BINARY, OPCODE_TEXT

ctypedef object (*Method)(Outbox self, PyObject* const* args, Py_ssize_t count, PyObject* names)

# Definitions by which CPython calls the two functions below, and the methods that parse other arguments for them.
cdef PyMethodDef text_method, binary_method
cdef Method parse_text, parse_binary


cdef object send(Outbox self, PyObject* const* args, Py_ssize_t count, PyObject* names):
    cdef PyObject* text
    cdef Py_ssize_t size
    cdef const char* data
    if count == 1 and names == NULL and PyUnicode_CheckExact(<object>args[0]):
        text = args[0]
        data = utf8_of(<object>text, &size)
        return self.push_message(OPCODE_TEXT, data, size, <object>text, True)
    return parse_text(self, args, count, names)


cdef object send_binary(Outbox self, PyObject* const* args, Py_ssize_t count, PyObject* names):
    cdef bytes copy
    if count == 1 and names == NULL:
        copy = as_bytes("send", <object>args[0])
        return self.push_message(OPCODE_BINARY, PyBytes_AS_STRING(copy), len(copy), copy, True)
    return parse_binary(self, args, count, names)


cdef Method replace(str name, PyMethodDef* own, Method method) except NULL:
    """Make `own` the definition of the Outbox's method, but have it call `method`. Returns what the original calls."""
    cdef object original = getattr(Outbox, name)
    own[0] = (<PyMethodDescrObject*>original).d_method[0]
    if own.ml_flags != METH_FASTCALL | METH_KEYWORDS:
        raise TypeError(f"{name} was compiled to be called in another way")
    parse, own.ml_meth = own.ml_meth, <void*>method
    return <Method>parse


parse_text = replace("send", &text_method, send)
parse_binary = replace("send_binary", &binary_method, send_binary)


def with_own_methods(cls):
    """Give a subclass of Outbox `send` and `send_binary` as methods of its own, as a decorator."""
    cls.send = PyDescr_NewMethod(<PyTypeObject*>cls, &text_method)
    cls.send_binary = PyDescr_NewMethod(<PyTypeObject*>cls, &binary_method)
    return cls


cdef class Broadcaster:
    """Broadcasts by a hub."""

    cdef public Hub _hub

    @cython.nonecheck(True)
    def broadcast(self, text not None, *, to=None, exclude=None, key=None, bint compress=True, bint local=False):
        """Send one text message to every open connection of this server, or to those in rooms. Never blocks; may be
        called from any thread.

        Args:
            text: The message.
            to: The room that it is for, or several: names, or what `user` returns. A connection that is in several of
                them gets it once. None: it is for every connection. A room that has no members is no error.
            exclude: A connection that does not get it, or several.
            key: What it is the newest state of: with `on_backlog="latest"` it takes the place of an older one with the
                same key in the same room, for clients that do not keep up. None: it is no state, and nothing takes its
                place.
            compress: False sends it as it is, to connections that compress too.
            local: True: only connections of this process get it, as they get it from each other process by itself.

        Raises:
            TypeError: `text` is not `str`; bytes go through `broadcast_binary`. Or `key` is not hashable, or `to` or
                `exclude` is something else.
            ValueError: A room's name is empty, or has a lone surrogate, which UTF-8 can not carry. UnicodeEncodeError:
                `text` has one.
        """
        self._hub.broadcast(text, key, compress, to, exclude, local)

    @cython.nonecheck(True)
    def broadcast_binary(self, data not None, *, to=None, exclude=None, key=None, bint compress=True, bint local=False):
        """Send one binary message to every open connection of this server, or to those in rooms. Never blocks; may be
        called from any thread.

        Args:
            data: Any bytes-like object; a mutable one may be changed as soon as the call returns.
            to, exclude, key, compress, local: See `broadcast`.

        Raises:
            TypeError: `data` is not bytes-like; text goes through `broadcast`. Or see `broadcast`.
            ValueError: See `broadcast`.
        """
        self._hub.broadcast_binary(data, key, compress, to, exclude, local)
