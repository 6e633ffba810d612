# What waits to be sent on one connection; see outbox.pyx.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from crest.io.clock cimport Deadline
from crest.io.deflation cimport Deflation
from crest.io.pieces cimport Pieces, crest_piece
from crest.io.turn cimport Pending, Turn

cdef extern from "net.h" nogil:
    ptrdiff_t crest_send(int fd, const crest_piece* pieces, size_t count)
    void crest_prefetch(const void* address)
    uint64_t crest_now()
    const ptrdiff_t CREST_WOULD_BLOCK
    const ptrdiff_t CREST_BROKEN

cdef extern from "Python.h":
    void PyObject_GC_Track(object o)
    void PyObject_GC_UnTrack(object o)
    bint PyObject_GC_IsTracked(object o)

cdef enum State:
    CONNECTING      # no transport yet
    OPEN
    CLOSING         # a close frame has been sent or will be: nothing more is accepted
    CLOSED          # the transport is gone

cdef class Owner(Deadline):
    """Whom an outbox tells, and asks to end the connection: the connection's Protocol."""
    cdef int close(self, int code, str reason) except -1
    cdef int fail(self, int code, str error) except -1
    cdef int drained(self) except -1
    cdef int call_soon(self, object callback) except -1


cdef class Feed(Pending):
    """A stream of shared bytes that many outboxes send; fanout.pyx fills it. Positions count bytes, and only grow."""
    cdef Turn turn
    cdef readonly uint64_t max_backlog
    cdef readonly bint drop                 # the backlog policy: drop the newest message, or else close
    cdef uint64_t start                     # up to here everyone has everything, or has it among its pieces
    cdef uint64_t end
    cdef int catch_up(self, Outbox outbox) except -1
    cdef int leave(self, Outbox outbox) except -1


cdef class Outbox(Pieces):
    cdef Owner owner
    cdef Feed feed
    cdef object transport
    cdef Deflation deflation                # None: nothing is compressed
    cdef uint32_t slot                      # in the fan-out
    cdef int fd                             # -1: everything goes through the transport
    cdef uint8_t state
    # Flags are bytes, here and below the size of an idle connection: a bint has four.
    cdef uint8_t blocked                    # the transport has bytes queued: it will say when they are gone
    cdef uint8_t limited                    # the transport's buffer limits are set
    cdef uint8_t tell_drained               # owner.drained() is owed
    cdef uint8_t overflowed
    cdef uint32_t handed                    # bytes that the transport has, at most
    cdef uint32_t ping_serial
    cdef readonly uint64_t _number          # unique in this process
    cdef size_t posted                      # bytes on their way from other threads
    cdef uint64_t seen                      # position in the feed
    cdef readonly uint64_t dropped          # messages, by the backlog policy
    cdef double pinged                      # when the last ping was sent, by the clock; 0: none awaits its pong
    cdef float pong_delay                   # seconds from a ping to its pong; negative: there was none yet

    cdef int collectable(self) except -1
    cdef int attach(self, Owner owner, Feed feed, object transport) except -1
    cdef int detach(self) except -1
    cdef int stop(self) except -1
    cdef size_t waiting(self) noexcept
    cdef bint push_message(
        self, uint8_t opcode, const char* data, size_t size, object owner, bint compress) except -1
    cdef bint push_compressed(self, uint8_t opcode, const char* data, size_t size, object owner) except -1
    cdef bint extend(self, uint8_t opcode, const char* data, size_t size) noexcept
    cdef bint push_frame(self, uint8_t opcode, const char* data, size_t size, object owner) except -1
    cdef int push_bytes(self, const char* data, size_t size) except -1
    cdef int push_close(self, int code, bytes reason) except -1
    cdef int overflow(self, uint64_t messages) except -1
    cdef int hand_over(self) except -1
    cdef int resume(self) except -1
    cdef int broken(self) except -1
    cdef bint push_ping(self) except -1
    cdef bint pong(self, bytes payload) except -1

    cdef bint post(self, uint8_t opcode, size_t size, object owner, bint compress) except -1
    cdef int output_due(self) except -1
    cdef int append(self, const char* header, size_t header_size, const char* data, size_t size) except -1
    cdef int limit_transport(self) except -1


cdef inline bint is_ready(Outbox outbox) noexcept nogil:
    """Whether bytes may go straight to the socket: nothing waits that must go before."""
    return outbox.count == 0 and not outbox.blocked and outbox.fd >= 0
