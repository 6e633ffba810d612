"""Arguments that say which connections are meant: `to`, `exclude`, and rooms' names.

What is returned is exact `str` and objects of crest's own, as whatever waits to be sent keeps them (see arguments.pyx).
"""

cimport cython

from crest.cpython cimport PyUnicode_AsUTF8AndSize, PyUnicode_Check, PyUnicode_CheckExact, PyUnicode_FromObject
from crest.io.out.outbox cimport Outbox


@cython.final
cdef class UserRoom:
    """All connections of one user of a server, as `to` of a broadcast takes it. `WebSocketServer.user` makes it.

    Attributes:
        name: The user's.
    """

    def __cinit__(self, name, /):
        self.name = name_of("user", name)

    def __repr__(self):
        return f"UserRoom({self.name!r})"

    def __eq__(self, other):
        return type(other) is UserRoom and (<UserRoom>other).name == self.name

    def __hash__(self):
        return hash((UserRoom, self.name))


cdef str name_of(str kind, name):
    """Return a name as an exact `str`."""
    cdef str exact
    cdef Py_ssize_t size
    if not PyUnicode_Check(name):
        raise TypeError(f"a {kind}'s name must be str, not {type(name).__name__}")
    exact = name if PyUnicode_CheckExact(name) else PyUnicode_FromObject(name)
    if not exact:
        raise ValueError(f"a {kind}'s name must not be empty")
    if not exact.isascii():
        PyUnicode_AsUTF8AndSize(exact, &size)  # UnicodeEncodeError, a ValueError, for a lone surrogate
    return exact


cdef str room_name(str method, room):
    """Check the name of a room that a connection is to join or leave."""
    if type(room) is UserRoom:
        raise TypeError(f"{method}() takes a room's name; a connection is in its user's room by itself")
    return name_of("room", room)


cdef object as_address(room):
    """Return a room's name as an exact `str`, or a `UserRoom`."""
    return room if type(room) is UserRoom else name_of("room", room)


cdef tuple as_addresses(to):
    """Return the rooms that `to` names; None if it is None, which stands for every connection."""
    if to is None:
        return None
    if type(to) is UserRoom or PyUnicode_Check(to):
        return (as_address(to),)
    try:
        rooms = iter(to)
    except TypeError:
        raise TypeError(f"to must be a room's name, what user() returns, or several of them, not {type(to).__name__}"
                        ) from None
    return tuple([as_address(room) for room in rooms])


def rooms_in(to):
    """Return the rooms that `to` names, as a tuple; None if it is None.

    Raises:
        TypeError, ValueError: it names something else.
    """
    return as_addresses(to)


cdef tuple as_excluded(exclude):
    """Return the connections that `exclude` names; None if there are none."""
    if exclude is None:
        return None
    if isinstance(exclude, Outbox):
        return (exclude,)
    try:
        excluded = tuple(exclude)
    except TypeError:
        raise TypeError(f"exclude must be a connection or several, not {type(exclude).__name__}") from None
    for each in excluded:
        if not isinstance(each, Outbox):
            raise TypeError(f"exclude must be a connection or several, and {type(each).__name__} is no connection")
    return excluded or None
