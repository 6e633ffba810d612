"""A transport of crest's own for TLS, in place of the event loop's.

`SecureTransport` is a `StreamTransport` with Python's `ssl` between the socket and the protocol: an `SSLObject` and its
two `MemoryBIO`. What comes is cut into records (RFC 8446 section 5.1). So OpenSSL is asked for plaintext only when
there is some. And a BIO, whose memory never shrinks, never holds more than one record. What waits for the kernel is
ciphertext, and `get_write_buffer_size` counts all of it.

The end is that of TCP, with a close_notify (section 6.1) before it: each half is closed by itself. A stream that ends
without the peer's close_notify has ended all the same. A WebSocket has a closing handshake of its own, and an HTTP
request says how long it is.

A peer can make OpenSSL answer without end, and read nothing. So while more than 64 KiB of such answers wait, nothing is
read. At most twice that can wait, and it counts in the budget.

What must hold besides what stream.pyx says: until the handshake has ended well, the protocol is told of nothing, not of
the connection's end either.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from cpython.bytearray cimport PyByteArray_AS_STRING
from libc.stdint cimport uint8_t

import ssl

from crest.cpython cimport PyBUF_READ, PyMemoryView_FromMemory
from crest.io.life.intake cimport ANSWERS
from crest.io.life.protocol cimport Protocol
from crest.io.loop.clock cimport Deadline
from crest.io.loop.turn cimport Turn, begin_section, end_section
from crest.io.net.stream cimport StreamTransport
from crest.io.syscalls cimport CREST_BROKEN, crest_piece, crest_recv

cdef size_t RECORD_HEADER = 5                   # bytes: type, major and minor version, length
cdef uint8_t FIRST_TYPE = 20, LAST_TYPE = 24    # of content: change_cipher_spec ... heartbeat
cdef uint8_t MAJOR_VERSION = 3                  # of every TLS
cdef size_t MAX_PLAINTEXT = 1 << 14             # bytes of a record, before it is encrypted
cdef size_t MAX_CIPHERTEXT = MAX_PLAINTEXT + 2048   # and encrypted, in any version (RFC 5246 section 6.2.3)

cdef enum:
    RECORDS_A_CALL = 8
    END_OF_DATA = -3    # a code besides CREST_BROKEN: the peer has sent close_notify

cdef size_t MOST_ANSWERS = 1 << 16              # bytes of TLS's own answers: while more wait, nothing is read
cdef size_t COPIED = 2048                       # bytes: a copy of so few costs less than a view of them

_WantRead = ssl.SSLWantReadError
_ZeroReturn = ssl.SSLZeroReturnError
_Error = ssl.SSLError


cdef inline object readable(const char* data, size_t size):
    """Return an object with these bytes, for a call that does not keep the object."""
    return data[:size] if size <= COPIED else PyMemoryView_FromMemory(<char*>data, size, PyBUF_READ)


cdef class Handshake(Deadline):
    """Hears of the end of a `SecureTransport`'s handshake, and may be given a time for it."""

    cpdef over(self, error):
        """Hear that the handshake has ended: with an exception, or with None if it has ended well. If this raises, or
        the connection ends within it, the handshake has not ended well, and this is called again."""
        raise NotImplementedError


@cython.final
cdef class SecureTransport(StreamTransport):
    """The transport of one connection with TLS, at the server's side; its arguments are a `StreamTransport`'s."""

    def shake_hands(self, context, bytearray room not None, Handshake handshake not None):
        """Begin the handshake; called in place of `start`.

        Args:
            context: the `ssl.SSLContext`.
            room: memory into which all connections of one listening socket receive.
            handshake: is told of the end, with an OSError (an `ssl.SSLError` above all) if the handshake has failed.
        """
        self.encrypts = True
        self.room = room
        self.handshake = handshake
        self.poller.keep(self)
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        # The object that SSLObject itself calls, with the same arguments. SSLObject's methods are Python: they would
        # be a tenth of what a message costs.
        self.engine = getattr(self.tls, "_sslobj", self.tls)
        self.watch()

    def get_extra_info(self, name, default=None):
        """Return what a `StreamTransport` has, or `sslcontext` or `ssl_object`."""
        if name == "ssl_object" and self.tls is not None:
            return self.tls
        if name == "sslcontext" and self.tls is not None:
            return self.tls.context
        return StreamTransport.get_extra_info(self, name, default)

    # ---- Reading -------------------------------------------------------------------------------------------------

    cdef int read(self) except -1:
        cdef const char* data = PyByteArray_AS_STRING(self.room)
        cdef ptrdiff_t received = crest_recv(self.fd, <char*>data, len(self.room))
        cdef size_t size
        if received == CREST_BROKEN or (received == 0 and self.handshake is not None):
            return self.end()
        if received == 0:
            return self.ended_by_peer()
        if received < 0:
            return 0
        size = received
        while self.handshake is not None:
            if self.ended or not self.feed(&data, &size):
                return 0
            self.shake()
        return self.decrypt(data, size)

    cdef bint feed(self, const char** data, size_t* size) except -1:
        """Give OpenSSL what there is of one record, and take it from `data`. True if OpenSSL should read now: the
        record is whole, or it is no record at all."""
        cdef size_t taken = 0
        while self.header_size < RECORD_HEADER and taken < size[0]:
            self.header[self.header_size] = <uint8_t>data[0][taken]
            self.header_size += 1
            taken += 1
            if self.header_size == RECORD_HEADER:
                self.missing = (self.header[3] << 8) | self.header[4]
        if self.header_size == RECORD_HEADER:
            if self.missing > MAX_CIPHERTEXT or self.header[1] != MAJOR_VERSION \
                    or not FIRST_TYPE <= self.header[0] <= LAST_TYPE:
                self.missing = 0
            if self.missing > size[0] - taken:
                self.missing -= size[0] - taken
                taken = size[0]
            else:
                taken += self.missing
                self.missing = self.header_size = 0
        if taken:
            self.incoming.write(readable(data[0], taken))
        data[0] += taken
        size[0] -= taken
        return taken and not self.header_size

    cdef int shake(self) except -1:
        """Go on with the handshake."""
        cdef Turn turn = self.protocol.turn
        begin_section(turn)
        try:
            self.engine.do_handshake()
        except _WantRead:
            self.flush()
        except _Error as error:
            self.flush()  # an alert that tells the peer the reason
            self.end()
            self.handshake.over(error)
        else:
            self.shaken()
        finally:
            end_section(turn)
        return 0

    cdef int shaken(self) except -1:
        """Tell the protocol of its connection: the handshake has ended well."""
        cdef Handshake handshake = self.handshake
        handshake.over(None)
        if not self.ended:
            self.handshake = None
            # With TLS 1.3 only tickets wait, which leave with the first answer. A client may read in one thread and
            # write in another. Tickets that come just as it sends its first request may hang it for ever, in OpenSSL.
            if self.engine.version() != "TLSv1.3":
                self.flush()
        if not self.ended:
            self.protocol.connection_made(self)
            self.watch()
        return 0

    cdef int decrypt(self, const char* data, size_t size) except -1:
        """Decrypt `data` for the protocol, which gets as much in one call as it has room for."""
        cdef Protocol protocol = self.protocol
        cdef char* where
        cdef size_t room, filled = 0, overhead = 0
        cdef ptrdiff_t got = 0
        cdef bint whole
        if not size:
            return 0
        protocol.buffer(&where, &room)
        while got >= 0 and self.feed(&data, &size):
            while True:
                whole = room - filled >= MAX_PLAINTEXT
                got = self.decrypt_record(where + filled, room - filled)
                if got <= 0:
                    overhead += RECORD_HEADER + ((self.header[3] << 8) | self.header[4]) if got == 0 else 0
                    break
                filled += got
                if filled == room:
                    filled = 0
                    protocol.received(room)
                    if self.closing:
                        return 0
                    protocol.buffer(&where, &room)
                if whole or not self.engine.pending():
                    break
        if filled:
            protocol.received(filled)
        if overhead and not self.closing:
            protocol.overhead(overhead)
        if self.closing:
            return 0
        if got == END_OF_DATA:
            return self.ended_by_peer()
        if got == CREST_BROKEN:
            return self.end()
        return 0

    cdef ptrdiff_t decrypt_record(self, char* where, size_t room) except? -9:
        """Read plaintext of one record at most; returns its bytes. 0: the record was for OpenSSL itself. Or END_OF_DATA
        or CREST_BROKEN."""
        cdef Turn turn = self.protocol.turn
        cdef ptrdiff_t got
        begin_section(turn)
        try:
            got = self.engine.read(room, self.protocol.view(where, room)) or END_OF_DATA
        except _WantRead:
            self.flush()  # perhaps it has an answer
            got = 0
        except _ZeroReturn:
            got = END_OF_DATA
        except _Error:  # the peer does not speak TLS any more, or another party has sent the bytes
            self.flush()
            got = CREST_BROKEN
        finally:
            end_section(turn)
        return got

    # ---- Writing -------------------------------------------------------------------------------------------------

    cdef int push(self, const char* data, size_t size) except -1:
        cdef Turn turn = self.protocol.turn
        cdef size_t taken
        cdef list records
        begin_section(turn)  # records must leave in the order in which they were made
        try:
            records = []
            while size and not self.ended:
                taken = self.engine.write(readable(data, min(size, MAX_PLAINTEXT)))
                data += taken
                size -= taken
                records.append(self.outgoing.read())
                if len(records) == RECORDS_A_CALL or not size:
                    self.push_records(records)
                    records = []
        except _Error as error:
            self.fail(error)
        finally:
            end_section(turn)
        return 0

    cdef int push_records(self, list records) except -1:
        cdef crest_piece pieces[RECORDS_A_CALL]
        cdef size_t i, count = len(records)
        for i in range(count):
            pieces[i].data = PyBytes_AS_STRING(records[i])
            pieces[i].size = len(<bytes>records[i])
        return self.push_pieces(pieces, count)

    cdef int flush(self) except -1:
        """Send what OpenSSL itself has for the peer: an alert, tickets, or the answer to a KeyUpdate (RFC 8446 section
        4.6.3), of which the peer may demand any number."""
        cdef Turn turn = self.protocol.turn
        cdef size_t before = self.unsent(), answer = 0
        cdef bytes records
        begin_section(turn)
        try:
            records = self.outgoing.read()
            if records:
                self.push_records([records])
            if not self.ended:
                answer = self.unsent() - before  # before what was held meanwhile is sent
        finally:
            end_section(turn)
        if answer and self.handshake is None and not self.ended:
            self.answered(self.answers + answer)
        return 0

    cdef size_t unsent(self) noexcept:
        """Count the bytes that are pending."""
        return 0 if self.pending is None else len(self.pending)

    cdef int answered(self, size_t size) except -1:
        """Note how many bytes of TLS's answers wait for the peer, at most. Past a limit nothing more is read until the
        peer has taken most of them."""
        cdef bint stalled = size > (MOST_ANSWERS // 4 if self.stalled else MOST_ANSWERS)
        self.answers = size
        self.protocol.keep(ANSWERS, size)
        if stalled != self.stalled:
            self.stalled = stalled
            self.watch()
        return 0

    cdef int pace(self) except -1:
        # Answers may lie anywhere in what is pending: they are no more than all of it.
        if self.answers > self.unsent() and not self.ended:
            self.answered(self.unsent())
        return StreamTransport.pace(self)

    # ---- The end -------------------------------------------------------------------------------------------------

    cdef int all_sent(self) except -1:
        cdef Turn turn = self.protocol.turn
        if self.handshake is None and not self.notified:
            self.notified = True
            begin_section(turn)
            try:
                self.tls.unwrap()
            except _Error:  # most often because the peer has not sent close_notify, too
                pass
            finally:
                end_section(turn)
            self.flush()
        if self.pending is None and not self.ended:
            StreamTransport.all_sent(self)
        return 0

    cdef int lost(self, Protocol protocol) except -1:
        cdef Handshake handshake = self.handshake
        self.forget()
        if handshake is None:
            protocol.connection_lost(None)
        else:
            handshake.over(ConnectionResetError())
        return 0

    cdef int abandoned(self) except -1:
        if self.poller.loop.is_closed():
            self.forget()
        return StreamTransport.abandoned(self)

    cdef int disowned(self) except -1:
        self.forget()
        return self.cease()

    cdef int forget(self) except -1:
        self.handshake = self.tls = self.engine = self.incoming = self.outgoing = None
        return 0
