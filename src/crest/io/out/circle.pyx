"""Rooms and their members. A room is a name; in each fan-out that has members in it, it is a `Circle`.

A circle is an array of outboxes, which a round goes through without the GIL. `Memberships` are the same from the other
side: the circles of one outbox. Each side knows its place in the other one, so that a connection that ends leaves
without a search. A membership takes some 30 bytes, and an empty room nothing (`benches/memberships.py`).

Nothing here knows a socket, a log or a message. Which message reaches which outbox is the fan-out's business.
"""

cimport cython
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint32_t

from crest.io.out.address cimport UserRoom
from crest.io.out.backlog cimport Backlog, Follower
from crest.io.out.outbox cimport Outbox


@cython.final
@cython.no_gc  # there is no cycle: members are borrowed
cdef class Circle:
    """The members of one room in one fan-out."""

    def __dealloc__(self):
        PyMem_Free(self.members)
        PyMem_Free(self.places)

    cdef int reserve(self) except -1:
        """Allocate what `enter` needs."""
        cdef uint32_t room = self.count + self.count // 4 + 2
        if self.count == self.room:
            self.members = <PyObject**>resized(self.members, room * sizeof(PyObject*))
            self.places = <uint32_t*>resized(self.places, room * sizeof(uint32_t))
            self.room = room
        return 0

    cdef uint32_t enter(self, Outbox outbox, uint32_t place) noexcept:
        """Add a member, for which there must be room; returns its slot."""
        self.members[self.count] = <PyObject*>outbox
        self.places[self.count] = place
        self.count += 1
        return self.count - 1

    cdef void vacate(self, uint32_t slot, size_t* at) noexcept:
        """Take out the member at a slot. `at` is how far a round through the members has come: all of those before it
        stay before it."""
        cdef uint32_t free = slot
        if free < at[0]:
            at[0] -= 1
            free = self.fill(free, at[0])
        self.fill(free, self.count - 1)
        self.count -= 1
        if self.count < self.room // 4:
            self.shrink()

    cdef uint32_t fill(self, uint32_t free, uint32_t slot) noexcept:
        """Move the member at `slot` to a slot that is free; returns the slot that is free then."""
        cdef Memberships moved
        if free != slot:
            self.members[free] = self.members[slot]
            self.places[free] = self.places[slot]
            moved = <Memberships>(<Outbox>self.members[free])._follower
            moved.items[self.places[free]].slot = free
        return slot

    cdef void shrink(self) noexcept:
        cdef uint32_t room = halved(<void**>&self.members, self.room, sizeof(PyObject*))
        if room < self.room:
            halved(<void**>&self.places, self.room, sizeof(uint32_t))  # if that fails, there is more than needed
            self.room = room


cdef void* resized(void* memory, size_t size) except NULL:
    cdef void* moved = PyMem_Realloc(memory, size)
    if moved == NULL:
        raise MemoryError
    return moved


cdef uint32_t halved(void** memory, uint32_t room, size_t size) noexcept:
    """Give back half of the memory of an array, if that can be done; returns how many items of `size` bytes it has room
    for then."""
    cdef void* moved = PyMem_Realloc(memory[0], room // 2 * size)
    if moved == NULL:
        return room
    memory[0] = moved
    return room // 2


@cython.final
@cython.no_gc  # there is no cycle: circles refer to no outbox
cdef class Memberships(Follower):
    """The circles that one outbox is in; once it has stopped, those that it was in; before it opens, its user's."""

    def __dealloc__(self):
        cdef uint32_t i
        cdef size_t at = 0
        for i in range(self.count):
            if self.stage == IN:
                (<Circle>self.items[i].circle).vacate(self.items[i].slot, &at)
            Py_DECREF(<Circle>self.items[i].circle)
        PyMem_Free(self.items)

    cdef int reserve(self) except -1:
        """Allocate what `add` needs."""
        cdef uint32_t room = self.count + self.count // 2 + 1
        if self.count == self.room:
            self.items = <Membership*>resized(self.items, room * sizeof(Membership))
            self.room = room
        return 0

    cdef void add(self, Circle circle, uint32_t slot) noexcept:
        """Note that the outbox is in a circle now. There must be room for that."""
        Py_INCREF(circle)
        self.items[self.count].circle = <PyObject*>circle
        self.items[self.count].slot = slot
        self.count += 1

    cdef void remove(self, uint32_t place) noexcept:
        """Note that the outbox has left the circle at a place among these."""
        cdef PyObject* circle = self.items[place].circle
        cdef Membership* moved = self.items + self.count - 1
        self.count -= 1
        if place != self.count:
            self.items[place] = moved[0]
            (<Circle>moved.circle).places[moved.slot] = place
        if self.count < self.room // 4:
            self.room = halved(<void**>&self.items, self.room, sizeof(Membership))
        Py_DECREF(<Circle>circle)

    cdef Py_ssize_t find(self, Outbox outbox, Circle circle) noexcept:
        """Find the place of a circle among these; -1: the outbox is not in it. Searches where there is less."""
        cdef uint32_t i
        if self.count <= circle.count:
            for i in range(self.count):
                if self.items[i].circle == <PyObject*>circle:
                    return i
        else:
            for i in range(circle.count):
                if circle.members[i] == <PyObject*>outbox:
                    return circle.places[i]
        return -1

    cdef Circle of_user(self):
        """Return the user's circle, or None."""
        cdef uint32_t i
        for i in range(self.count):
            if (<Circle>self.items[i].circle).of_user:
                return <Circle>self.items[i].circle
        return None

    cdef frozenset names(self):
        """Return the rooms' names; a user's is not among them."""
        cdef uint32_t i = 0
        cdef Circle circle
        cdef list names = []
        while i < self.count:  # which may change meanwhile: to allocate may run anything
            circle = <Circle>self.items[i].circle
            if not circle.of_user:
                names.append(circle.name)
            i += 1
        return frozenset(names)

    cpdef stopped(self, Backlog outbox):
        outbox.feed.exit_all(outbox)


@cython.final
cdef class Circles:
    """The circles of one fan-out, by name."""

    def __cinit__(self):
        self.rooms = {}
        self.users = {}

    cdef Circle find(self, object address):
        """Return the circle of a room, or None. `address` is the room's name, or a `UserRoom`."""
        if type(address) is str:
            return self.rooms.get(address)
        return self.users.get((<UserRoom>address).name)

    cdef list found(self, tuple addresses):
        """List the circles of rooms, each once."""
        cdef list found = []
        cdef Circle circle
        for address in addresses:
            circle = self.find(address)
            if circle is not None and circle not in found:
                found.append(circle)
        return found

    cdef Circle enter(self, Outbox outbox, object address):
        """Have an outbox be in a room; returns the room's circle."""
        cdef Circle circle = self.find(address)
        cdef Memberships memberships = memberships_of(outbox)
        if memberships is None:
            memberships = Memberships()
        if circle is None:
            circle = new_circle(address)
        elif memberships.find(outbox, circle) >= 0:
            return circle
        circle.reserve()
        memberships.reserve()
        if not circle.count:
            if self.interest is not None and self.only_here(circle):
                self.interest.began(circle.name, circle.of_user)
            (self.users if circle.of_user else self.rooms)[circle.name] = circle
        outbox._follower = memberships
        memberships.add(circle, circle.enter(outbox, memberships.count))
        if self.interest is not None and self.interest.members:
            self.tell_entered(circle, outbox)
        return circle

    cdef int open(self, Outbox outbox) except -1:
        """Have an outbox that opens be in its user's room."""
        cdef Memberships memberships = memberships_of(outbox)
        cdef Circle awaited
        if memberships is not None and memberships.stage == AWAITING:
            awaited = <Circle>memberships.items[0].circle
            outbox._follower = None
            self.enter(outbox, UserRoom(awaited.name))
        return 0

    cdef int exit(self, Outbox outbox, Circle circle, size_t* at) except -1:
        """Have an outbox not be in a circle; no-op if it is not. `at`: see `Circle.vacate`."""
        cdef Memberships memberships = memberships_of(outbox)
        cdef Py_ssize_t place = -1 if memberships is None else memberships.find(outbox, circle)
        if place >= 0:
            circle.vacate(memberships.items[place].slot, at)
            memberships.remove(place)
            self.vacated(circle, outbox)
            if not memberships.count:
                outbox._follower = None
        return 0

    cdef int exit_all(self, Outbox outbox, Circle current, size_t* at) except -1:
        """Have an outbox that has stopped be in no circle. `at` is how far a round has come that goes through
        `current`."""
        cdef Memberships memberships = memberships_of(outbox)
        cdef size_t nowhere = 0
        cdef Circle circle
        cdef uint32_t i
        if memberships is None or memberships.stage != IN:
            return 0
        memberships.stage = OVER
        for i in range(memberships.count):
            circle = <Circle>memberships.items[i].circle
            circle.vacate(memberships.items[i].slot, at if circle is current else &nowhere)
            self.vacated(circle, outbox)
        return 0

    cdef int vacated(self, Circle circle, Outbox outbox) except -1:
        """Forget a circle if it is empty, and tell that an outbox has left it."""
        cdef dict circles = self.users if circle.of_user else self.rooms
        cdef bint empty = not circle.count
        if empty:
            del circles[circle.name]  # which needs no memory
            if not circles:
                circles.clear()  # gives back what many took
        if self.interest is not None:
            self.tell_exited(circle, outbox, empty)
        return 0

    cdef void tell_entered(self, Circle circle, Outbox outbox) noexcept:
        try:
            self.interest.entered(circle.name, circle.of_user, outbox._number)
        except Exception:
            self.interest.missed = True

    cdef void tell_exited(self, Circle circle, Outbox outbox, bint empty) noexcept:
        """Tell it last, when nothing is half done: what is told may run Python."""
        try:
            if self.interest.members:
                self.interest.exited(circle.name, circle.of_user, outbox._number)
            if empty and self.only_here(circle):
                self.interest.ended(circle.name, circle.of_user)
        except Exception:
            self.interest.missed = True

    cdef list members(self, object address):
        """List the members of a room."""
        cdef Circle circle = self.find(address)
        cdef list found = []
        cdef uint32_t i = 0
        while circle is not None and i < circle.count:  # which may change meanwhile: to allocate may run anything
            found.append(<Outbox>circle.members[i])
            i += 1
        return found

    cdef bint only_here(self, Circle circle) except -1:
        """True if the server's other fan-out has no members in the room of a circle."""
        if self.other is None:
            return True
        return circle.name not in (self.other.users if circle.of_user else self.other.rooms)


cdef Circle new_circle(object address):
    """Make the circle of a room, without members yet."""
    cdef Circle circle = Circle.__new__(Circle)
    circle.of_user = type(address) is not str
    circle.name = (<UserRoom>address).name if circle.of_user else address
    return circle


cdef Memberships awaiting(UserRoom room):
    """Return the memberships of an outbox that is to enter its user's room when it opens."""
    cdef Memberships memberships = Memberships()
    memberships.stage = AWAITING
    memberships.reserve()
    memberships.add(new_circle(room), 0)
    return memberships


cdef Memberships memberships_of(Backlog outbox):
    """Return the memberships of an outbox; None if it has never been in a room."""
    return <Memberships>outbox._follower if isinstance(outbox._follower, Memberships) else None
