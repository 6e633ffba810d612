"""What waits for a peer that reads slowly: the bound on it, the policy, and the frames that may still be dropped.

A `Backlog` is a queue of frames with a bound. Whose queue it is, an `Owner`, ends the connection where the policy says
so. Broadcasts stand in the `Feed` until they are pulled in: where they do not fit, the policy decides alike.

A frame of which bytes are sent must be sent whole, or the peer could not read what follows. So `begun` says how much of
the queue's head belongs to one. It is found by walking over the headers of what a send has taken, only when that was
not everything: a queue that empties in one go never walks.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

from crest.io.budget cimport Budget
from crest.io.clock cimport Deadline
from crest.io.pieces cimport Pieces
from crest.io.turn cimport Block, Pending
from crest.wire.frames cimport frame_size
from crest.wire.rfc6455 cimport CLOSE_TRY_AGAIN_LATER, OPCODE_CLOSE, OPCODE_PING, OPCODE_PONG

from functools import partial
import logging

logger = logging.getLogger("crest")

cdef size_t MOST_REST = 1 << 16     # bytes of a frame that is still sent to its end when the connection is shed


cdef class Owner(Deadline):
    cdef int close(self, int code, str reason) except -1:
        """Start the closing handshake; no-op when it has begun."""
        raise NotImplementedError

    cdef int fail(self, int code, str error) except -1:
        """Fail the connection (RFC 6455 section 7.1.7); no-op when it has ended."""
        raise NotImplementedError

    cdef int drained(self) except -1:
        """The kernel has taken everything; told once for each `tell_drained`."""
        raise NotImplementedError

    cdef int call_soon(self, object callback) except -1:
        """Have the loop call it, as if for an event of this connection, whoever's turn it is."""
        raise NotImplementedError

    cdef int abort(self) except -1:
        """Cut the connection; no-op when it is gone."""
        raise NotImplementedError

    cdef int give_up(self, str reason) except -1:
        """Forget what has come and is not handled, and end the connection: its memory is needed."""
        raise NotImplementedError

    cdef uint64_t max_backlog(self, uint64_t usual) noexcept:
        """Return how many bytes may wait for the peer, if that is not as usual."""
        return usual


cdef class Feed(Pending):
    cdef int join(self, Backlog outbox) except -1:
        """The outbox gets what is published from now on. MemoryError: it gets nothing."""
        raise NotImplementedError

    cdef int catch_up(self, Backlog outbox) except -1:
        """Give the outbox pieces for all that it has not seen, or cut it short."""
        raise NotImplementedError

    cdef int leave(self, Backlog outbox) except -1:
        """The outbox gets what was published before, and nothing more. It never fails."""
        raise NotImplementedError

    cdef size_t refill(self, Backlog outbox) except? 0:
        """Queue some of what has passed a lagging outbox by; returns how many bytes."""
        raise NotImplementedError

    cdef uint64_t lag(self, Backlog outbox) except? 0:
        """Bytes that have passed an outbox by, and will come."""
        raise NotImplementedError


cdef class Backlog(Pieces):
    """What waits to be sent on one connection."""

    cdef int stop(self) except -1:
        """Accept no more; what was accepted, broadcasts of this turn included, still goes out."""
        if self.state == OPEN:
            self.state = CLOSING
            self.feed.leave(self)
        return 0

    cdef size_t waiting(self) noexcept:
        """Bytes that were queued and not taken by the kernel, as far as is known."""
        return self.queued + self.handed

    cdef Budget budget(self):
        return self.feed.turn.budget

    cdef size_t beneath(self) noexcept:
        """Bytes that another transport has, below one that has some."""
        return 0

    cdef size_t held(self) noexcept:
        """Bytes that what was handed to the transport takes."""
        return self.handed + self.beneath() if self.handed else 0

    cdef bint leaves(self, size_t unsent) except -1:
        """So much of what was handed to the transport is left. Whether that is less than was known."""
        cdef size_t held = self.held()
        if unsent >= self.handed:
            return False
        self.handed = unsent
        self.budget().give(held - self.held())
        return True

    cdef int forget_handed(self) except -1:
        """The transport has nothing of this any more."""
        self.budget().give(self.held())
        self.handed = 0
        return 0

    cdef inline bint drops(self) noexcept:
        return self.feed.policy == DROP_NEWEST or self.feed.policy == DROP_OLDEST

    cdef uint64_t limit(self) noexcept:
        """Return how many bytes may wait."""
        return self.feed.max_backlog if self.owner is None else self.owner.max_backlog(self.feed.max_backlog)

    cdef uint64_t left(self) noexcept:
        """Return how many more bytes may wait."""
        cdef uint64_t limit = self.limit()
        return limit - min(limit, <uint64_t>self.waiting())

    cdef bint has_room(self, size_t needed) except -1:
        """Whether a frame fits into the backlog; the oldest may have to make way for it. What the transport has is out
        of reach for that: it counts as sent."""
        if self.feed.policy == DROP_OLDEST:
            return self.make_way(needed, self.limit(), &self.dropped)
        return needed <= self.left()

    cdef int overflow(self, uint64_t messages) except -1:
        """So many messages did not fit: the backlog policy decides."""
        if not (self.drops() or self.overflowed or self.owner is None):
            # Handlers run from the loop, never within a send or a broadcast.
            self.owner.call_soon(self._close_overflowed)
            self.overflowed = True
            self.stop()
        self.dropped += messages
        return 0

    def _log_fields(self):
        """What lines of the log about this have as fields: a dict for `extra`, or None. The floor above knows."""
        return None

    cdef int cut_short(self, BaseException error) except -1:
        """Cut the connection: what it is to be sent can not be, most often for want of memory."""
        self._cut_off()
        try:
            logger.error(
                "%r is cut off: what waits for it can not be sent", self, exc_info=error, extra=self._log_fields())
        except MemoryError:
            pass
        return 0

    def _close_overflowed(self):
        if self.owner is not None:
            self.owner.fail(
                CLOSE_TRY_AGAIN_LATER, f"the peer reads too slowly: max_backlog is {self.limit()} bytes")

    # ---- What the budget asks for --------------------------------------------------------------------------------

    def _burden(self):
        """Bytes that wait for the peer."""
        return self.waiting() + (self.feed.lag(self) if self.lagging else 0)

    def _precedence(self):
        """The greater goes first: those that are to be closed for their slowness anyway, then for whom most waits."""
        return self.overflowed, self._burden()

    def _shed(self):
        """End the connection. Of what waits only the rest of a frame that has begun stays, copied, for it may be the
        end of something large. Whom that would not free of most, or whose close frame is among what waits, is cut
        off: else everybody had to go where none has much."""
        cdef bytes rest
        cdef uint64_t burden = self._burden()
        cdef bint closing = self.state != OPEN
        if self.owner is not None:
            # Handlers run from the loop's calls for this connection.
            self.owner.call_soon(partial(self._close_shed, burden))
        self.overflowed = True  # whoever closes it meanwhile leaves it to that
        self.stop()
        self.make_way(0, self.begun, &self.dropped)
        if closing or self.begun > MOST_REST or self.held() + self.begun > burden // 2:
            self._cut_off()
            return
        rest = self.head(self.begun)
        self.discard()
        if rest:
            self.push_copy(PyBytes_AS_STRING(rest), len(rest), NULL, 0)
            self.begun = len(rest)
            self.own = None  # the close frame gets a small block, not one twice as large as this

    def _cut_off(self):
        """Forget all that waits, the rest of what had begun, and cut the connection."""
        self.fd = -1
        self.stop()
        self.dropped += self.begun > 0
        self.discard()
        self.forget_handed()
        if self.owner is not None:
            self.owner.abort()

    def _close_shed(self, burden):
        if self.owner is not None:
            self.owner.fail(CLOSE_TRY_AGAIN_LATER, f"the peer reads too slowly: {burden} bytes waited for it, and for "
                            f"all together more than max_backlog_total, {self.budget().limit} bytes")

    # ---- Frames -----------------------------------------------------------------------------------------------------

    cdef int sent(self, size_t size) except -1:
        """The first `size` bytes are sent."""
        cdef Walk walk
        if size == self.queued:
            self.begun = 0
        else:
            self.start_walk(&walk)
            while walk.position < size:
                step(&walk, frame_size(head_at(&walk)))
            self.begun = walk.position - size
        return self.consume(size)

    cdef int discard(self) except -1:
        self.begun = 0
        return Pieces.discard(self)

    cdef bint make_way(self, size_t needed, uint64_t limit, uint64_t* dropped) except -1:
        """Drop the oldest frames, and add to `dropped` how many, until the queue has room for `needed` bytes within
        `limit`; False, and nothing is dropped, if it never would.

        A peer that reads again must see that this side is alive: the newest ping and the newest pong stay, if there is
        room for them (RFC 6455 section 5.5.3: who is behind may answer the last ping only)."""
        cdef Walk walk
        cdef Controls controls
        cdef size_t excess, size
        cdef const uint8_t* head
        if self.begun + needed > limit:
            return False
        if self.queued + needed <= limit:
            return True
        excess = self.begun + self.queued + needed - limit
        controls.sizes[0] = controls.sizes[1] = 0
        self.start_walk(&walk)
        while walk.position < excess + controls.sizes[0] + controls.sizes[1]:
            if walk.position == self.queued:
                dropped[0] += (controls.sizes[0] > 0) + (controls.sizes[1] > 0)
                controls.sizes[0] = controls.sizes[1] = 0
                break
            head = head_at(&walk)
            size = frame_size(head)
            dropped[0] += is_lost(&controls, head, size)
            step(&walk, size)
        self.cut(self.begun, walk.position)
        if controls.sizes[0] or controls.sizes[1]:
            self.insert_controls(&controls)
        return True

    cdef void start_walk(self, Walk* walk) noexcept:
        """At the first frame that has not begun."""
        walk.piece = self.pieces + self.first
        walk.offset = walk.position = self.begun

    cdef int insert_controls(self, Controls* controls) except -1:
        """Queue copies, to be sent next."""
        cdef size_t size = controls.sizes[0] + controls.sizes[1]
        cdef Block block = Block(size, self.budget())
        memcpy(block.data, controls.frames[0], controls.sizes[0])
        memcpy(block.data + controls.sizes[0], controls.frames[1], controls.sizes[1])
        return self.insert(self.begun, block, block.data, size)


cdef inline const uint8_t* head_at(Walk* walk) noexcept:
    """Where the frame begins. A header is never apart from itself: it was queued in one piece."""
    while walk.offset >= walk.piece.size:
        walk.offset -= walk.piece.size
        walk.piece += 1
    return <const uint8_t*>walk.piece.data + walk.offset


cdef inline void step(Walk* walk, size_t size) noexcept:
    walk.offset += size
    walk.position += size


cdef bint is_lost(Controls* controls, const uint8_t* frame, size_t size) noexcept:
    """Whether dropping a frame loses anything. The newest ping and the newest pong are kept, as copies; a close frame
    is only dropped with the connection."""
    cdef int opcode = frame[0] & 0x0F
    cdef int which = opcode == OPCODE_PONG
    cdef bint again
    if opcode == OPCODE_CLOSE:
        return False
    if opcode != OPCODE_PING and opcode != OPCODE_PONG:
        return True
    again = controls.sizes[which] > 0
    memcpy(controls.frames[which], frame, size)
    controls.sizes[which] = size
    return again
