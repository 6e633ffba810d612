"""Connections between accept(2) and their transport: a PROXY protocol header, the first byte, and TLS's handshake.

A `Preface` reads what comes before a protocol may have the connection, and then makes the transport that fits. It takes
the bytes of the header from the kernel and no byte behind them; the first byte is only looked at. Which peers must send
a header, what is refused, and what is logged, is decided by the arrival of the connection: an object of the reception,
of the floor above. A preface tells it what was found. All of this has one deadline.

Most often the bytes are there as soon as a connection is accepted. Then the poller never hears of the preface.

What must hold:

- A descriptor has one owner: the preface, from `enter` on, or the transport, or the connector. `fd` is -1 from when
  another has it.
- The preface is over once `arrival` is None. It has then given the connection away, or has closed it and given the
  seats of the arrival back.
- A call of the arrival, and any allocation, may run code that closes the listener, and this cuts the preface. So
  `moved_on` is asked after each.
- Until the seats are given back, a preface that waits keeps its deadline: what had no memory is tried again then.
"""

cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_FromStringAndSize

from crest.io.life.protocol cimport Protocol
from crest.io.loop.clock cimport TRIES
from crest.io.loop.poller cimport CREST_READABLE, Pollable, Poller
from crest.io.loop.turn cimport Turn
from crest.io.net.secure cimport Handshake, SecureTransport
from crest.io.net.stream cimport StreamTransport
from crest.io.syscalls cimport (
    CREST_ADDRESS_TEXT,
    CREST_WOULD_BLOCK,
    crest_address,
    crest_address_text,
    crest_close,
    crest_peek,
    crest_recv,
)

from crest.wire.proxy import LONGEST, MalformedHeader, ProxyHeader

cdef size_t MOST_HEADER = LONGEST
cdef char HANDSHAKE = 22        # the type of the record that a TLS client begins with (RFC 8446 section 5.1)
cdef Py_ssize_t ROOM = 1 << 16  # bytes that a transport with TLS receives at once


@cython.final
cdef class Lobby:
    """Keeps the connections of one listening socket until a protocol may have them.

    Args:
        poller, turn: of the loop that serves them.
        reception: decides about them. `receive(address)` returns the arrival of a connection, or None to close it.
            `tls`: True if the socket speaks TLS; `open_timeout`: seconds for a preface.
        connector: `connect(fd, site, handshake, context)` has the loop make a transport, and returns the task.
            `context` is None without TLS. `handshake` hears of the end. If it raises, the descriptor is still the
            caller's. If the connector is None, transports are crest's own.

    An arrival has:
        expects_header: True if a header of the PROXY protocol must come first.
        named(header): takes the client that a `ProxyHeader` names; False if it is refused.
        refuse_header(reason): hears that the header is none.
        context(): takes note of a TLS handshake that begins, and returns the SSLContext for it; None if it is refused.
        speaks_plainly(): hears that a client does not begin with TLS.
        shaken(): hears that the handshake has ended well.
        failed(error): hears why the connection can not be served.
        late(): hears that the time is over in which TLS should have begun and shaken hands.
        site(): returns the site of the protocol.
        end(): gives up the seats of a connection that was never opened; may be called again.
    """

    def __cinit__(self, Poller poller not None, Turn turn not None, reception not None, connector):
        self.poller = poller
        self.turn = turn
        self.reception = reception
        self.connector = connector
        self.tls = reception.tls
        self.seconds = reception.open_timeout
        self.room = bytearray(ROOM) if self.tls and connector is None else None
        self.waiting = set()

    cdef int enter(self, int fd, const crest_address* peer) except -1:
        """Take a connection over that was accepted. If this raises, it is closed."""
        cdef Preface preface
        arrival = None
        try:
            preface = Preface.__new__(Preface)
            preface.grace = Grace.__new__(Grace)
            arrival = self.reception.receive(peername(peer))
            if arrival is not None and arrival.expects_header:
                preface.header = ProxyHeader()
        except BaseException:
            crest_close(fd)
            if arrival is not None:
                arrival.end()
            raise
        if arrival is None:
            crest_close(fd)
            return 0
        preface.lobby = self
        preface.arrival = arrival
        preface.grace.preface = preface
        preface.peer = peer[0]
        preface.fd = fd
        return preface.begin()

    cdef int close(self) except -1:
        """Cut off the connections that wait."""
        cdef Preface preface
        while self.waiting:
            preface = self.waiting.pop()  # which needs no memory
            preface.cut()
        return 0


@cython.final
cdef class Grace(Handshake):
    """The deadline of a preface. It hears of TLS's handshake in the preface's place."""

    cpdef expired(self):
        cdef Preface preface = self.preface
        if preface is not None:
            preface.late()

    cpdef over(self, error):
        cdef Preface preface = self.preface
        if preface is not None:
            preface.shaken(error)


@cython.final
cdef class Preface(Pollable):
    """One connection that has no protocol yet. A `Lobby` makes it."""

    def __dealloc__(self):
        if self.fd >= 0:
            crest_close(self.fd)

    cdef int begin(self) except -1:
        """Read what has come, and begin to wait for the rest. Without anything to read there is nothing to wait for."""
        try:
            if self.lobby.tls or self.header is not None:
                self.lobby.waiting.add(self)
                self.lobby.turn.clock.start(self.grace, self.lobby.seconds)
        except BaseException:
            self.cut()
            raise
        return self.ready(CREST_READABLE)

    cdef int ready(self, int events) except -1:
        """Go on. An exception ends this connection and no other."""
        try:
            self.read()
        except (SystemExit, KeyboardInterrupt):
            self.cut()
            raise
        except BaseException as error:
            if self.arrival is None:
                raise
            self.shaken(error)
        return 0

    # ---- Reading -------------------------------------------------------------------------------------------------

    cdef int read(self) except -1:
        """Read the header, if one is due, and then make the transport that the first byte asks for."""
        cdef char first = 0
        cdef ptrdiff_t got
        arrival = self.arrival
        while self.header is not None:
            if arrival is None or not self.read_header(arrival):
                return 0
        if self.moved_on(arrival):
            return 0
        if self.lobby.tls:
            got = crest_peek(self.fd, &first, 1)
            if got == CREST_WOULD_BLOCK:
                return self.await_bytes()
            if got <= 0:  # in silence: most often it was a health check
                return self.cut()
            if first == HANDSHAKE:
                return self.shake_hands(arrival)
            arrival.speaks_plainly()
        return self.serve(arrival)

    cdef bint read_header(self, object arrival) except -1:
        """Read what has come of the header. True if there is more to read."""
        cdef char* data = PyByteArray_AS_STRING(self.lobby.turn.read_buffer)
        cdef ptrdiff_t got = crest_peek(self.fd, data, MOST_HEADER)
        cdef size_t taken = 0
        header = self.header
        reason = None
        if got == CREST_WOULD_BLOCK:
            self.await_bytes()
            return False
        if got <= 0:
            reason = "it is not complete" if header.begun else ""  # in silence, see above
        else:
            try:
                taken = header.feed(PyBytes_FromStringAndSize(data, got))
            except MalformedHeader as error:
                reason = str(error)
        if self.moved_on(arrival):
            return False
        if reason is None:
            crest_recv(self.fd, data, taken)
            if not header.complete:
                return True
            self.header = None
            if arrival.named(header):
                return True
        elif reason:
            arrival.refuse_header(reason)
        self.cut()
        return False

    cdef int await_bytes(self) except -1:
        if not self.kept:
            self.lobby.poller.keep(self)
            self.kept = True
        return self.lobby.poller.watch(self, CREST_READABLE)

    # ---- Transports ----------------------------------------------------------------------------------------------

    cdef int serve(self, object arrival) except -1:
        """Serve the connection without TLS."""
        cdef Lobby lobby = self.lobby
        cdef StreamTransport transport
        site = arrival.site()
        if lobby.connector is not None:
            return self.lend(arrival, site, None)
        transport = StreamTransport(lobby.poller, Protocol(lobby.turn, site), -1)
        if self.moved_on(arrival):
            return 0
        self.leave()
        transport.fd, self.fd = self.fd, -1
        transport.peer = self.peer
        try:
            transport.start()
        except BaseException:
            arrival.end()
            raise
        return 0

    cdef int shake_hands(self, object arrival) except -1:
        """Begin TLS's handshake, which has the time that is left."""
        cdef Lobby lobby = self.lobby
        cdef SecureTransport transport
        context = arrival.context()
        if context is None:
            return self.cut()
        site = arrival.site()
        if lobby.connector is not None:
            return self.lend(arrival, site, context)
        transport = SecureTransport(lobby.poller, Protocol(lobby.turn, site), -1)
        if self.moved_on(arrival):
            return 0
        transport.fd = self.fd
        try:
            lobby.poller.keep(transport)  # in the place of this
        except BaseException:
            transport.fd = -1
            raise
        lobby.poller.watch(self, 0)
        self.kept = False
        self.fd = -1
        self.transport = transport
        transport.peer = self.peer
        transport.shake_hands(context, lobby.room, self.grace)
        return 0

    cdef int lend(self, object arrival, object site, object context) except -1:
        """Have the event loop make a transport. Without TLS that takes a few turns, and is neither late nor cut off."""
        cdef int fd
        if self.moved_on(arrival):
            return 0
        if context is None:
            self.lobby.turn.clock.cancel(self.grace)
            self.lobby.waiting.discard(self)
        self.let_go()
        fd, self.fd = self.fd, -1
        try:
            self.task = self.lobby.connector.connect(fd, site, self.grace, context)
        except BaseException:
            if self.arrival is None:
                crest_close(fd)
            else:
                self.fd = fd
            raise
        if self.moved_on(arrival):
            self.task.cancel()
        return 0

    # ---- The end -------------------------------------------------------------------------------------------------

    cdef int shaken(self, object error) except -1:
        """Hear that a transport has the connection, or that none will."""
        cdef int tries = TRIES
        arrival = self.arrival
        if arrival is None:
            return 0
        if error is None:
            while tries:
                tries -= 1
                try:
                    arrival.shaken()
                    tries = 0
                except MemoryError:
                    if not tries:
                        raise
            if not self.moved_on(arrival):
                self.leave()
            return 0
        try:
            arrival.failed(error)
        finally:
            self.cut()
        return 0

    cdef int late(self) except -1:
        """End the connection: its time is over."""
        arrival = self.arrival
        if arrival is None:
            return 0
        try:
            if self.header is not None:
                arrival.refuse_header(f"none within {self.lobby.seconds:g} s")
            else:
                arrival.late()
        finally:
            self.cut()
        return 0

    cdef bint moved_on(self, object arrival) except -1:
        """True if this is over already. What the arrival has taken meanwhile is given up."""
        if self.arrival is not None:
            return False
        if arrival is not None:
            arrival.end()
        return True

    cdef int cut(self) except -1:
        """Close the connection, and give the seats back."""
        cdef SecureTransport transport = self.transport
        arrival, task = self.arrival, self.task
        if arrival is None:
            return 0
        arrival.end()
        if self.arrival is None:
            return 0
        self.leave()
        if self.fd >= 0:
            crest_close(self.fd)
            self.fd = -1
        if transport is not None:
            transport.end()
        if task is not None:
            task.cancel()
        return 0

    cdef int leave(self) except -1:
        """Be over, without memory for it."""
        self.lobby.turn.clock.cancel(self.grace)
        self.lobby.waiting.discard(self)
        self.let_go()
        self.grace.preface = None
        self.arrival = self.header = self.transport = self.task = None
        return 0

    cdef int let_go(self) except -1:
        """Be known to the poller no more."""
        if self.kept:
            self.kept = False
            self.lobby.poller.release(self)
        return 0

    cdef int abandoned(self) except -1:
        self.kept = False
        return self.cut()

    cdef int disowned(self) except -1:
        self.kept = False
        self.watched = 0
        self.arrival = None
        crest_close(self.fd)
        self.fd = -1
        return 0


cdef object peername(const crest_address* peer):
    """Return address and port; None without an address, as of a Unix socket."""
    cdef char text[CREST_ADDRESS_TEXT]
    return (text.decode(), peer.port) if crest_address_text(peer, text) else None
