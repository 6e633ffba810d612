# What waits for one peer, and the bound on it; see backlog.pyx.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from crest.io.loop.budget cimport Budget
from crest.io.loop.clock cimport Deadline
from crest.io.loop.turn cimport Block, Pending, Turn
from crest.io.out.pieces cimport Pieces
from crest.io.out.tally cimport Tally
from crest.io.syscalls cimport crest_piece

cdef enum:
    LARGEST_CONTROL = 2 + 125       # bytes of a ping or a pong (RFC 6455 section 5.5)

# A way over the frames of a queue.
cdef struct Walk:
    const crest_piece* piece
    size_t offset                   # in the piece
    size_t position                 # in the queue

# The newest ping and the newest pong of those that were dropped.
cdef struct Controls:
    uint8_t frames[2][LARGEST_CONTROL]
    size_t sizes[2]                 # 0: there was none

# Of an outbox: how far it takes messages. phase.pyx has the phases of a connection.
cdef enum State:
    UNATTACHED      # there is no transport yet
    ACCEPTING       # messages may be sent
    STOPPED         # a close frame has been sent or will be: nothing more is accepted
    DETACHED        # the transport is gone

# What to do when more than `max_backlog` bytes would wait for a peer.
cdef enum Policy:
    CLOSE_CONNECTION
    DROP_NEWEST
    DROP_OLDEST
    LATEST

cdef class Owner(Deadline):
    """The connection's Protocol, as its outbox knows it: it is told of events, and asked to end the connection."""
    cdef int close(self, int code, str reason) except -1
    cdef int fail(self, int code, str error) except -1
    cdef int drained(self) except -1
    cdef int call_soon(self, object callback) except -1
    cdef int abort(self) except -1
    cdef int give_up(self, str reason) except -1
    cdef uint64_t max_backlog(self, uint64_t usual) noexcept


cdef class Follower:
    """Something that hears when an outbox stops, and that the outbox knows nothing else of: its rooms, for one."""
    cpdef stopped(self, Backlog outbox)


cdef class Feed(Pending):
    """A stream of shared bytes that many outboxes send; fanout.pyx fills it. Positions count bytes, and only grow."""
    cdef Turn turn
    cdef Tally tally
    cdef readonly uint64_t max_backlog
    cdef readonly uint8_t policy            # a Policy
    cdef uint64_t start                     # up to here each outbox has everything, or has it among its pieces
    cdef uint64_t end
    cdef uint64_t posted                    # bytes of calls that wait: from other threads, or from within sections
    cdef str user_key                       # by which a connection's user names its room
    cdef int join(self, Backlog outbox) except -1
    cdef int catch_up(self, Backlog outbox) except -1
    cdef int leave(self, Backlog outbox) except -1
    cdef size_t refill(self, Backlog outbox) except? 0
    cdef uint64_t lag(self, Backlog outbox) except? 0
    cdef uint64_t unseen(self, Backlog outbox) noexcept
    cdef bint keep(self, Backlog outbox, object place, object key, Block frame) except -1
    cdef int enter(self, Backlog outbox, object address) except -1
    cdef int exit(self, Backlog outbox, object address) except -1
    cdef int exit_all(self, Backlog outbox) except -1


cdef class Backlog(Pieces):
    cdef size_t begun           # bytes at the head: the rest of a frame that has begun to be sent
    cdef uint64_t seen          # position in the feed
    cdef uint32_t slot          # in the fan-out
    cdef int fd                 # -1: everything goes through the transport
    cdef uint32_t handed        # bytes that the transport has, at most
    # Flags are bytes, here and in subclasses: a bint has four, and this is part of the size of an idle connection.
    cdef uint8_t state
    cdef uint8_t blocked        # the transport has bytes queued: it will say when they are gone
    cdef uint8_t overflowed
    cdef uint8_t lagging        # it does not get keyed broadcasts for now, see latest.pyx
    cdef Owner owner
    cdef Feed feed
    cdef public Follower _follower      # None: nothing follows it
    cdef readonly uint64_t dropped      # messages, by the policy

    cdef int stop(self) except -1
    cdef size_t waiting(self) noexcept
    cdef Budget budget(self)
    cdef bint drops(self) noexcept
    cdef uint64_t limit(self) noexcept
    cdef uint64_t room_left(self) noexcept
    cdef bint has_room(self, size_t needed) except -1
    cdef int overflow(self, uint64_t messages) except -1
    cdef void lose(self, uint64_t messages) noexcept
    cdef int cut_short(self, BaseException error) except -1
    cdef size_t beneath(self) noexcept
    cdef size_t held(self) noexcept
    cdef bint leaves(self, size_t unsent) except -1
    cdef int forget_handed(self) except -1

    cdef int sent(self, size_t size) except -1
    cdef bint make_way(self, size_t needed, uint64_t limit) except -1

    cdef void start_walk(self, Walk* walk) noexcept
    cdef int insert_controls(self, Controls* controls) except -1
