"""What a worker tells the exchange of the rooms that have members here: from which it gets messages.

The first member of a room makes the worker interested in it at once. After the last one has left it stays interested
for a second: members come back, and to tell the exchange costs more than a message in vain.
"""

cimport cython
from libc.stdint cimport uint32_t, uint64_t

from crest.cluster.record cimport DISINTEREST, INTEREST, Header, Kind, begin_header, packed
from crest.io.out.address cimport UserRoom

cdef double STAYS = 1               # seconds: interested in a room after its last member has left
cdef double TOLERANCE = 0.1         # seconds: rooms that are left so soon after are left together
cdef enum:
    ROOMS_A_RECORD = 512


@cython.final
cdef class Interests(Deadline):
    """The rooms of all servers of a worker.

    Args:
        clock: of the loop.
        link: to the exchange.
        number: of the worker.
    """

    def __cinit__(self, Clock clock not None, Link link not None, uint32_t number):
        self.clock = clock
        self.link = link
        self.number = number
        self.leaving = {}

    def records(self, int kind, uint32_t server, list rooms):
        """Return an INTEREST or DISINTEREST in rooms, in as many records as they need."""
        cdef Header header
        cdef list found = []
        for i in range(0, len(rooms), ROOMS_A_RECORD):
            begin_header(&header, <Kind>kind, self.number)
            header.server = server
            found.append(packed(&header, NULL, 0, tuple(rooms[i:i + ROOMS_A_RECORD])))
        return found

    def began(self, server, name, of_user):
        """Tell the exchange of a room that has its first member, unless it knows of the room."""
        if self.link.end is not None and self.leaving.pop((server, name, of_user), None) is None:
            self.put(INTEREST, server, [UserRoom(name) if of_user else name])

    def ended(self, server, name, of_user):
        """Have the exchange told soon that a room has no members any more. Without memory for that it is not told."""
        if self.link.end is not None:
            try:
                self.leaving[server, name, of_user] = self.clock.now() + STAYS
                self.begin()
            except MemoryError:
                pass

    def forget(self):
        """Tell of none that have no members: the exchange is lost, and the next one will not know them."""
        self.leaving.clear()

    def stop(self):
        self.clock.cancel(self)

    def put(self, int kind, server, list rooms):
        for record in self.records(kind, server, rooms):
            self.link.put(record)

    cdef int begin(self) except -1:
        if not self.runs:
            self.clock.start(self, STAYS)
            self.runs = True
        return 0

    cpdef expired(self):
        """Tell the exchange of the rooms that have had no members for a while; they are in order of time."""
        cdef double now = self.clock.now() + TOLERANCE
        self.runs = False
        by_server = {}
        left = []
        for (server, name, of_user), when in self.leaving.items():
            if when > now:
                break
            left.append((server, name, of_user))
            by_server.setdefault(server, []).append(UserRoom(name) if of_user else name)
        for server, rooms in by_server.items():
            self.put(DISINTEREST, server, rooms)
        for room in left:
            self.leaving.pop(room, None)
        if self.leaving:
            self.begin()


@cython.final
cdef class Rooms(Interest):
    """The rooms of a server that have members here.

    Args:
        interests: of the worker.
        server: its number, see server_id().
    """

    def __cinit__(self, Interests interests not None, uint32_t server):
        self.interests = interests
        self.server = server

    cpdef began(self, str name, bint of_user):
        self.interests.began(self.server, name, of_user)

    cpdef ended(self, str name, bint of_user):
        self.interests.ended(self.server, name, of_user)

    cpdef entered(self, str name, bint of_user, uint64_t number):
        self.watcher.entered(name, bool(of_user), number)

    cpdef exited(self, str name, bint of_user, uint64_t number):
        self.watcher.exited(name, bool(of_user), number)
