"""What the exchange does with records: each goes to the other links that it is for. Sans-I/O.

| record | goes to |
|---|---|
| MESSAGE and OPAQUE without addresses, GAP, START | all other links |
| MESSAGE and OPAQUE with addresses | those of them that are interested in any of these; each gets it once |
| INTEREST, DISINTEREST | none: they change to which links messages go |

What comes from one link reaches each other link in the order in which it came. Records are not copied: queues share the
block that they came in. Records to all that follow each other are one piece. No queue waits for another one.

A link that joins is told of the links that have started before: of each, how far its messages have come. When one goes
that had started, the others are told of that, too.
"""

cimport cython
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy

from crest.cluster.outgoing cimport Outgoing
from crest.cluster.record cimport (
    DISINTEREST,
    GAP,
    INTEREST,
    LEFT,
    MESSAGE,
    OPAQUE,
    START,
    VOID,
    Address,
    Beginning,
    Header,
    Record,
    begin_header,
    next_address,
    packed,
    read_beginning,
    read_record,
)
from crest.io.loop.turn cimport Block


@cython.final
cdef class Port:
    """A link, as the router knows it.

    Args:
        number: of the worker there.
        queue: that waits to be sent there.
    """

    def __cinit__(self, uint32_t number, Outgoing queue not None):
        self.number = number
        self.queue = queue
        self.interests = set()


@cython.final
cdef class Router:
    """Routes the records of the links that are connected."""

    def __cinit__(self):
        self.ports = []
        self.servers = {}

    cdef int connect(self, Port port) except -1:
        """Have a link get records from now on, and send some."""
        cdef Port other
        for other in self.ports:
            if other.started:
                port.queue.put(start_of(other))
        self.ports.append(port)
        return 0

    cdef int disconnect(self, Port port) except -1:
        """Forget a link and its interests."""
        cdef Port other
        self.ports.remove(port)
        while port.interests:
            self.forget(port, *port.interests.pop())
        if port.started:
            for other in self.ports:
                other.queue.put(end_of(port))
        return 0

    cdef size_t receive(self, Port origin, Block block, const char* data, size_t size) except? 0:
        """Route the whole records at the beginning of what has come; returns how many bytes they have.

        Raises:
            RecordError: something else has come. The records before it are routed.
        """
        cdef Port port
        try:
            return self.route_all(origin, block, data, size)
        finally:
            for port in self.ports:
                port.queue.commit()

    cdef size_t route_all(self, Port origin, Block block, const char* data, size_t size) except? 0:
        cdef Record record
        cdef size_t at = 0, spread = 0  # data[spread:at] goes to all
        cdef uint8_t kind
        try:
            while read_record(data + at, size - at, &record):
                kind = record.header.kind
                if kind == MESSAGE and not record.header.addresses_size:
                    origin.beginning.plain = record.header.sequence
                elif kind == GAP or (kind == OPAQUE and not record.header.addresses_size):
                    pass
                elif kind == START:
                    read_beginning(&record, &origin.beginning)
                    origin.started = True
                else:
                    self.spread(origin, block, data + spread, at - spread)
                    spread = at
                    self.route(origin, block, data + at, &record)
                    spread += record.header.size
                at += record.header.size
        finally:
            self.spread(origin, block, data + spread, at - spread)
        return at

    cdef int spread(self, Port origin, Block block, const char* data, size_t size) except -1:
        """Queue whole records for all other links."""
        cdef Port port
        if size:
            for port in self.ports:
                if port is not origin:
                    port.queue.append(block, data, size)
        return 0

    cdef int route(self, Port origin, Block block, const char* data, const Record* record) except -1:
        """Queue a record for the links that it is for, or do what it says."""
        cdef uint8_t kind = record.header.kind
        cdef dict rooms
        cdef Address address
        cdef const char* at = NULL
        cdef Port port
        if kind == INTEREST:
            return self.follow(origin, record)
        if kind == DISINTEREST:
            return self.unfollow(origin, record)
        if kind == MESSAGE:
            origin.beginning.addressed = record.header.sequence
        elif kind != OPAQUE:
            self.unknown += kind != VOID
            return 0
        rooms = self.rooms_of(record.header.server)
        self.serial += 1
        origin.mark = self.serial
        while next_address(record, &at, &address):
            interested = rooms.get(address.whole[:address.size + 4])
            if interested is not None:
                for port in <list>interested:
                    if port.mark != self.serial:
                        port.mark = self.serial
                        port.queue.append(block, data, record.header.size)
        return 0

    # ---- Interests -----------------------------------------------------------------------------------------------

    cdef dict rooms_of(self, uint32_t server):
        """Return the addresses of a server in which links are interested, with these links."""
        if self.rooms is None or self.server != server:
            self.rooms = self.servers.setdefault(server, {})
            self.server = server
        return self.rooms

    cdef int follow(self, Port origin, const Record* record) except -1:
        cdef dict rooms = self.rooms_of(record.header.server)
        cdef Address address
        cdef const char* at = NULL
        cdef bytes name
        while next_address(record, &at, &address):
            name = address.whole[:address.size + 4]
            if (record.header.server, name) not in origin.interests:
                origin.interests.add((record.header.server, name))
                rooms.setdefault(name, []).append(origin)
        return 0

    cdef int unfollow(self, Port origin, const Record* record) except -1:
        cdef Address address
        cdef const char* at = NULL
        cdef tuple interest
        while next_address(record, &at, &address):
            interest = record.header.server, address.whole[:address.size + 4]
            if interest in origin.interests:
                origin.interests.discard(interest)
                self.forget(origin, *interest)
        return 0

    def forget(self, Port port, server, bytes name):
        """Have a link not be interested in an address any more."""
        rooms = self.servers[server]
        if name in rooms:
            if port in rooms[name]:
                rooms[name].remove(port)
            if not rooms[name]:
                del rooms[name]

    # ---- For tests -----------------------------------------------------------------------------------------------

    def join(self, uint32_t number, Outgoing queue not None):
        """Connect a link; returns its port."""
        cdef Port port = Port(number, queue)
        self.connect(port)
        return port

    def part(self, Port port not None):
        """Disconnect a link."""
        self.disconnect(port)

    def feed(self, Port origin not None, bytes data not None):
        """Route whole records that have come from a link; returns how many bytes they have."""
        cdef Block block = Block(max(1, len(data)), None)
        memcpy(block.data, <const char*>data, len(data))
        block.used = len(data)
        return self.receive(origin, block, block.data, len(data))

    def interested(self, server, bytes address):
        """List the numbers of the workers that are interested in an address, as records have it."""
        cdef Port port
        return [port.number for port in self.servers.get(server, {}).get(address, [])]


cdef bytes end_of(Port port):
    """Return a LEFT that says that a worker is gone."""
    cdef Header header
    begin_header(&header, LEFT, port.number)
    return packed(&header, NULL, 0, None)


cdef bytes start_of(Port port):
    """Return a START that says how far the messages of a worker have come."""
    cdef Header header
    begin_header(&header, START, port.number)
    return packed(&header, &port.beginning, sizeof(Beginning), None)
