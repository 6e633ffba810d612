"""A worker's side of the exchange: relays what is broadcast here, and publishes what was broadcast elsewhere.

What is broadcast is counted and queued, whether or not there is an exchange. When one is connected, it is told how far
this worker had come and which rooms have members here, and then gets what waits. So another worker can tell how much
was lost with an exchange that ended: it has the numbers of the last messages that came.

Workers tell each other more than messages: by name, to those of them that listen to it.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from crest.cluster.interests cimport Interests, Rooms
from crest.cluster.link cimport Link, Owner
from crest.cluster.losses cimport Losses
from crest.cluster.record cimport (
    COMPRESS,
    GAP,
    INTEREST,
    LEFT,
    MESSAGE,
    NO_KEY,
    OPAQUE,
    SLOW,
    START,
    VOID,
    WORKERS,
    Beginning,
    Header,
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
from crest.io.loop.turn cimport Block, Turn, begin_section, end_section
from crest.io.out.address cimport UserRoom
from crest.io.out.hub cimport Hub
from crest.io.out.relay cimport Message, Relay
from crest.io.syscalls cimport crest_now
from crest.wire.rfc6455 cimport OPCODE_TEXT

import logging
import os

from crest.cluster.record import pack, server_id

logger = logging.getLogger("crest")

cdef double RETURN = 5              # seconds in which workers come back when there is another exchange


@cython.final
cdef class Bus(Owner):
    """Connects the servers of a worker with those of others.

    Args:
        turn: of the loop that serves them, with a poller.
        number: of this worker; no other one has it at the same time.
        process: the name of this process, 16 hexadecimal digits; None: a new one.
        on_gap: called with each `Gap`, by the loop; None: the log alone is told.
        queue: bytes that may wait for the exchange.
    """

    def __cinit__(self, Turn turn not None, uint32_t number, *, str process=None, on_gap=None, size_t queue=64 << 20):
        self.turn = turn
        self.number = number
        self.link = Link(turn, queue, number, True)
        self.losses = Losses(turn.clock, on_gap)
        self.sources = Sources()
        self.interests = Interests(turn.clock, self.link, number)
        self.servers = {}
        self.process = os.urandom(8).hex() if process is None else process
        self.counted.incarnation = int(self.process, 16)
        self.listeners = {}
        self.numbers, self.before = {}, {}

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
        self.servers[served.server] = served
        served.rooms = Rooms(self.interests, served.server)
        hub.watch_rooms(served.rooms)
        hub.relay = served
        return served

    def connect(self, int fd):
        """Use an exchange, the first one or the next.

        Args:
            fd: a stream socket that does not block; the bus closes it, unless this raises.
        """
        self.disconnect()
        self.before = self.before | self.numbers
        self.numbers = {}
        self.connected_at = self.turn.clock.now()
        self.link.complete()
        self.link.insert_first(self.introduction())
        self.link.attach(self.turn.poller, fd, self)
        self.unsure()

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
        self.interests.stop()
        for served in self.servers.values():
            served.hub.relay = None
            served.hub.watch_rooms(None)
        self.servers.clear()
        self.latest = None
        self.peers = None
        self.listeners.clear()

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
        self.interests.forget()
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
        if kind == LEFT:
            return self.receive_left(record.header.origin)
        if kind == OPAQUE and record.header.server == WORKERS:
            return self.hear(record)
        self.unknown += kind != VOID and kind != OPAQUE
        return 0

    cdef int receive_gap(self, const Record* record) except -1:
        cdef Loss loss
        read_loss(record, &loss)
        self.sources.explained += loss.plain
        if loss.others:
            self.unsure()
        if not loss.plain and not loss.addressed and not loss.uncertain:
            return 0
        return self.losses.note("slow" if record.header.opcode == SLOW else "queue", loss.plain + loss.addressed,
                                loss.uncertain > 0, loss.since, loss.until)

    cdef int receive_start(self, const Record* record) except -1:
        cdef Beginning beginning
        cdef bint uncertain = False
        cdef uint64_t missing
        read_beginning(record, &beginning)
        missing = self.sources.begin(record.header.origin, &beginning, &uncertain)
        self.missed(missing, uncertain)
        process = f"{beginning.incarnation:016x}"
        if process not in self.numbers:
            self.numbers[process] = record.header.origin
            self.tell_peers("began", record.header.origin, process)
        return 0

    cdef int receive_left(self, uint32_t number) except -1:
        self.numbers = {process: other for process, other in self.numbers.items() if other != number}
        self.before = {process: other for process, other in self.before.items() if other != number}
        self.tell_peers("left", number)
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
        if record.header.server == WORKERS:
            return self.hear(record)
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

    # ---- What workers say to each other --------------------------------------------------------------------------

    def listen(self, str name not None, callback):
        """Have a function called with the worker's number and the bytes whenever one tells something to a name."""
        self.listeners[name] = callback
        self.interests.began(WORKERS, name, False)

    def unlisten(self, str name not None):
        """End that."""
        if self.listeners.pop(name, None) is not None:
            self.interests.ended(WORKERS, name, False)

    def tell(self, str name not None, bytes data not None):
        """Tell other workers something: those that listen to a name."""
        self.link.put(pack(OPAQUE, data, origin=self.number, server=WORKERS, to=(name,)))

    def send_to(self, uint32_t server, str process not None, number, int opcode, bytes data not None, bint compress):
        """Send a message to one connection of a server in another worker."""
        cdef Message message
        cdef object key = number << 32 | server
        cdef tuple to = (process,)
        message.opcode = <uint8_t>opcode
        message.data = PyBytes_AS_STRING(data)
        message.size = len(data)
        message.key = <PyObject*>key
        message.compress = compress
        message.to = <PyObject*>to
        self.publish(WORKERS, &message)

    def reaches(self, process):
        """True if there is such a worker, as far as is known. One that was there with the exchange before is believed
        in for a while."""
        if process in self.before and self.turn.clock.now() < self.connected_at + RETURN:
            return True
        return process in self.numbers

    cdef int hear(self, const Record* record) except -1:
        """Have those called that listen; what is for one connection is a message of the application's."""
        for name in addresses_of(record) or ():
            try:
                if record.header.kind == MESSAGE:
                    self.send_here(record)
                elif name in self.listeners:  # else the exchange does not know yet that nothing listens any more
                    self.listeners[name](record.header.origin, record.payload[:record.payload_size])
            except Exception:
                logger.exception("What another worker has said could not be carried out")
        return 0

    cdef int send_here(self, const Record* record) except -1:
        """Send what has come for one connection of this process, if it is there."""
        cdef object key = key_of(record)
        cdef Served served = self.served(key & 0xFFFFFFFF)
        cdef bytes data = record.payload[:record.payload_size]
        cdef bint compress = record.header.flags & COMPRESS
        connection = None if served is None else served.hub.find(key >> 32)
        if connection is None:
            return 0
        if record.header.opcode == OPCODE_TEXT:
            connection.send(data.decode(), compress=compress)
        else:
            connection.send_binary(data, compress=compress)
        return 0

    def unsure(self):
        """Have it known that something may have been lost of what was told."""
        self.tell_peers("unsure")

    def tell_peers(self, str what, *args):
        """Tell it of other workers. What it raises must not cut the link."""
        if self.peers is not None:
            try:
                getattr(self.peers, what)(*args)
            except Exception:
                logger.exception("What is known of other workers could not be kept up")

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
        records += self.interests.records(INTEREST, WORKERS, list({self.process: None, **self.listeners}))
        for served in self.servers.values():
            rooms = served.hub.room_names() + [UserRoom(name) for name in served.hub.user_names()]
            records += self.interests.records(INTEREST, served.server, rooms)
        return b"".join(records)


@cython.final
cdef class Served(Relay):
    """A server that broadcasts to others of its kind."""

    cdef int relay(self, const Message* message) except -1:
        return self.bus.publish(self.server, message)

    def watch_members(self, watcher):
        """Have the members that enter and leave rooms told to `watcher.entered` and `watcher.exited`; None: to none."""
        self.rooms.watcher = watcher
        self.rooms.members = watcher is not None

    def take_missed(self):
        """True if something was not told since this was asked last."""
        missed, self.rooms.missed = self.rooms.missed, False
        return missed

    def reaches(self, process):
        return self.bus.reaches(process)

    def send_to(self, process, number, opcode, payload, compress):
        self.bus.send_to(self.server, process, number, opcode, payload, compress)
        return True
