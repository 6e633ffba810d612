"""A worker's side of the exchange: relays what is broadcast here, and publishes what was broadcast elsewhere.

What is broadcast is counted and queued, whether or not there is an exchange. When one is connected, it is told how far
this worker had come and which rooms have members here, and then gets what waits. So another worker can tell how much
was lost with an exchange that ended: it has the numbers of the last messages that came.

The first member of a room makes the worker interested in it at once. After the last one has left it stays interested
for a second: members come back, and to tell the exchange costs more than a message in vain.
"""

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from crest.cluster.link cimport Link, Owner
from crest.cluster.losses cimport Losses
from crest.cluster.record cimport (
    COMPRESS,
    DISINTEREST,
    GAP,
    INTEREST,
    MESSAGE,
    NO_KEY,
    OPAQUE,
    SLOW,
    START,
    VOID,
    Beginning,
    Header,
    Kind,
    Loss,
    Record,
    addresses_of,
    begin_header,
    key_of,
    measure,
    packed,
    read_beginning,
    read_loss,
    read_record,
    write,
)
from crest.cluster.sources cimport Sources
from crest.io.loop.clock cimport Deadline
from crest.io.loop.turn cimport Block, Turn, begin_section, end_section
from crest.io.out.address cimport UserRoom
from crest.io.out.hub cimport Hub
from crest.io.out.interest cimport Interest
from crest.io.out.relay cimport Message, Relay
from crest.io.syscalls cimport crest_now

import logging
import os

from crest.cluster.record import server_id

logger = logging.getLogger("crest")

cdef double STAYS = 1               # seconds: interested in a room after its last member has left
cdef double TOLERANCE = 0.1         # seconds: rooms that are left so soon after are left together
cdef enum:
    ROOMS_A_RECORD = 512


@cython.final
cdef class Bus(Owner):
    """Connects the servers of a worker with those of others.

    Args:
        turn: of the loop that serves them, with a poller.
        number: of this worker; no other one has it at the same time.
        on_gap: called with each `Gap`, by the loop; None: the log alone is told.
        queue: bytes that may wait for the exchange.
    """

    def __cinit__(self, Turn turn not None, uint32_t number, *, on_gap=None, size_t queue=64 << 20):
        self.turn = turn
        self.number = number
        self.link = Link(turn, queue, number, True)
        self.losses = Losses(turn.clock, on_gap)
        self.sources = Sources()
        self.leaving = Leaving()
        self.leaving.bus = self
        self.leaving.rooms = {}
        self.servers = {}
        self.counted.incarnation = int.from_bytes(os.urandom(8), "little")

    def attach(self, str path not None, Hub hub not None):
        """Relay what a server broadcasts, and have it publish what the same server broadcasts elsewhere.

        Args:
            path: of the server: it has the same one in each worker.
        """
        cdef Served served = Served()
        served.bus = self
        served.hub = hub
        served.server = server_id(path)
        if served.server in self.servers:
            raise ValueError(f"the server at {path!r} can not be told from another one")
        served.rooms = Rooms()
        served.rooms.bus = self
        served.rooms.server = served.server
        self.servers[served.server] = served
        hub.watch_rooms(served.rooms)
        hub.relay = served
        return served

    def connect(self, int fd):
        """Use an exchange, the first one or the next.

        Args:
            fd: a stream socket that does not block; the bus closes it, unless this raises.
        """
        self.disconnect()
        self.link.complete()
        self.link.insert_first(self.introduction())
        self.link.attach(self.turn.poller, fd, self)

    def disconnect(self):
        """Give up the exchange, once all that it has sent is read. What is to be sent waits for the next one."""
        if self.link.end is not None:
            self.link.receive_rest()
        if self.link.end is not None:
            self.link.close()
            self.lost(self.link, None)

    def close(self):
        """Give up the exchange for good, and let go of the servers."""
        cdef Served served
        self.link.close()
        self.losses.stop()
        self.turn.clock.cancel(self.leaving)
        for served in self.servers.values():
            served.hub.relay = None
            served.hub.watch_rooms(None)
        self.servers.clear()
        self.latest = None

    @property
    def connected(self):
        """True if there is an exchange."""
        return self.link.end is not None

    @property
    def waiting(self):
        """Bytes that wait for the exchange."""
        return self.link.queued

    @property
    def published(self):
        """Messages that were given to the exchange, or wait for it, or were dropped."""
        return self.counted.plain + self.counted.addressed

    cdef int lost(self, Link link, object reason) except -1:
        self.lost_at = crest_now() // 1000000
        self.leaving.rooms.clear()
        link.drop_begun()
        logger.warning("Other workers can not be reached%s", "" if reason is None else f": {reason}")
        return 0

    # ---- Publishing ----------------------------------------------------------------------------------------------

    cdef int publish(self, uint32_t server, const Message* message) except -1:
        """Queue a message for other workers."""
        if <object>message.to is not None and not <tuple>message.to:
            return 0  # to no room, which a record can not say
        begin_section(self.turn)
        try:
            self.queue(server, message)
        finally:
            end_section(self.turn)
        if self.link.lost != self.told:
            self.tell_dropped()
        return 0

    cdef int queue(self, uint32_t server, const Message* message) except -1:
        cdef Header header
        cdef bytes key
        cdef bint plain = <object>message.to is None
        if plain:
            self.counted.plain += 1
        else:
            self.counted.addressed += 1
        begin_header(&header, MESSAGE, self.number)
        header.server = server
        header.sequence = self.counted.plain if plain else self.counted.addressed
        try:
            key = measure(&header, message)
            write(self.link.reserve(header.size), &header, message, key)
            self.link.push_reserved(header.size)
        except (MemoryError, OverflowError):
            self.link.miss(plain)
        try:
            self.link.ended()
        except MemoryError:
            pass  # the message is queued, and the next one tries again
        return 0

    def tell_dropped(self):
        """Have the log told how many messages were dropped as the queue was full."""
        now = crest_now() // 1000000
        dropped, self.told = self.link.lost - self.told, self.link.lost
        self.losses.note("unsent", dropped, False, now, now)

    # ---- Receiving -----------------------------------------------------------------------------------------------

    cdef size_t received(self, Link link, Block block, const char* data, size_t size) except? 0:
        cdef Record record
        cdef size_t at = 0
        while read_record(data + at, size - at, &record):
            self.receive(&record)
            at += record.header.size
        return at

    cdef int receive(self, const Record* record) except -1:
        cdef int kind = record.header.kind
        if kind == MESSAGE:
            return self.deliver(record)
        if kind == GAP:
            return self.receive_gap(record)
        if kind == START:
            return self.receive_start(record)
        self.unknown += kind != VOID and kind != OPAQUE
        return 0

    cdef int receive_gap(self, const Record* record) except -1:
        cdef Loss loss
        read_loss(record, &loss)
        self.sources.explained += loss.plain
        return self.losses.note("slow" if record.header.opcode == SLOW else "queue", loss.plain + loss.addressed,
                                loss.uncertain > 0, loss.since, loss.until)

    cdef int receive_start(self, const Record* record) except -1:
        cdef Beginning beginning
        cdef bint uncertain = False
        cdef uint64_t missing
        read_beginning(record, &beginning)
        missing = self.sources.begin(record.header.origin, &beginning, &uncertain)
        self.missed(missing, uncertain)
        return 0

    def missed(self, uint64_t missing, bint uncertain):
        """Have it told that messages were lost with an exchange."""
        if missing or uncertain:
            now = crest_now() // 1000000
            self.losses.note("exchange", missing, uncertain, self.lost_at or now, now)

    cdef int deliver(self, const Record* record) except -1:
        """Publish a message to the connections of this process."""
        cdef Message message
        cdef uint64_t missing = self.sources.message(&record.header)
        cdef Served served = self.served(record.header.server)
        cdef object key = None
        cdef tuple to
        if missing:
            self.missed(missing, False)
        if served is None:
            self.unknown += 1
            return 0
        if served.hub.fanout is None:
            return 0
        if record.header.key_kind != NO_KEY and served.hub.fanout.latest is not None:
            key = key_of(record)
        to = addresses_of(record)
        message.opcode = record.header.opcode
        message.data = record.payload
        message.size = record.payload_size
        message.key = <PyObject*>key
        message.compress = record.header.flags & COMPRESS
        message.to = <PyObject*>to
        message.excluded = <PyObject*>None
        message.local = True
        try:
            served.hub.publish(&message)
        except MemoryError:
            now = crest_now() // 1000000
            self.losses.note("slow", 1, False, now, now)
        return 0

    cdef Served served(self, uint32_t server):
        """Return the server with an id, or None."""
        if self.latest is None or self.latest.server != server:
            self.latest = self.servers.get(server)
        return self.latest

    # ---- Interests -----------------------------------------------------------------------------------------------

    cdef bytes introduction(self):
        """Return what an exchange is told first: a START, and all rooms that have members here."""
        cdef Header header
        cdef Loss waiting
        cdef Beginning beginning = self.counted
        cdef Served served
        self.link.cancel(&waiting)
        beginning.plain -= waiting.plain
        beginning.addressed -= waiting.addressed + waiting.uncertain
        begin_header(&header, START, self.number)
        records = [packed(&header, &beginning, sizeof(beginning), None)]
        for served in self.servers.values():
            rooms = served.hub.room_names() + [UserRoom(name) for name in served.hub.user_names()]
            for i in range(0, len(rooms), ROOMS_A_RECORD):
                records.append(self.interest_record(INTEREST, served.server, tuple(rooms[i:i + ROOMS_A_RECORD])))
        return b"".join(records)

    def interest_record(self, int kind, uint32_t server, tuple rooms):
        """Return an INTEREST or DISINTEREST."""
        cdef Header header
        begin_header(&header, <Kind>kind, self.number)
        header.server = server
        return packed(&header, NULL, 0, rooms)

    def room_began(self, server, name, of_user):
        """Tell the exchange of a room that has its first member, unless it knows of the room."""
        if self.link.end is not None and self.leaving.rooms.pop((server, name, of_user), None) is None:
            self.link.put(self.interest_record(INTEREST, server, (UserRoom(name) if of_user else name,)))

    def room_ended(self, server, name, of_user):
        """Have the exchange told soon that a room has no members any more. Without memory for that it is not told."""
        if self.link.end is not None:
            try:
                self.leaving.rooms[server, name, of_user] = self.turn.clock.now() + STAYS
                self.leaving.begin()
            except MemoryError:
                pass

    def leave_rooms(self, list rooms):
        """Tell the exchange of rooms that have had no members for a while."""
        by_server = {}
        for server, name, of_user in rooms:
            by_server.setdefault(server, []).append(UserRoom(name) if of_user else name)
        for server, addresses in by_server.items():
            for i in range(0, len(addresses), ROOMS_A_RECORD):
                self.link.put(self.interest_record(DISINTEREST, server, tuple(addresses[i:i + ROOMS_A_RECORD])))


@cython.final
cdef class Served(Relay):
    """A server that broadcasts to others of its kind."""

    cdef int relay(self, const Message* message) except -1:
        return self.bus.publish(self.server, message)


@cython.final
cdef class Rooms(Interest):
    """The rooms of a server that have members here."""

    cpdef began(self, str name, bint of_user):
        self.bus.room_began(self.server, name, of_user)

    cpdef ended(self, str name, bint of_user):
        self.bus.room_ended(self.server, name, of_user)


@cython.final
cdef class Leaving(Deadline):
    """The rooms that the exchange is still to be told of, as they have no members any more: in order of time."""

    cdef int begin(self) except -1:
        if not self.due:
            self.bus.turn.clock.start(self, STAYS)
            self.due = True
        return 0

    cpdef expired(self):
        cdef double now = self.bus.turn.clock.now() + TOLERANCE
        self.due = False
        left = []
        for room, when in self.rooms.items():
            if when > now:
                break
            left.append(room)
        self.bus.leave_rooms(left)
        for room in left:
            self.rooms.pop(room, None)
        if self.rooms:
            self.begin()
