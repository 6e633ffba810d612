"""What waits for a peer that reads slowly: the bound on it, the policy, and the frames that may still be dropped.

A `Backlog` is a queue of frames with a bound. Its `Owner` ends the connection where the policy says so. Broadcasts
stand in the `Feed` until they are pulled in. Where they do not fit, the policy decides about them, too.

Once bytes of a frame are sent, the whole frame must be sent, or the peer could not read what follows. `begun` is the
number of bytes at the queue's head that belong to such a frame. A walk over the headers of what a send has taken finds
it. Only a send that did not take everything needs that: a queue that empties in one go never walks.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

from crest.io.loop.budget cimport Budget
from crest.io.loop.clock cimport Deadline
from crest.io.loop.turn cimport Block, Pending
from crest.io.out.pieces cimport Pieces
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
        """Hear that the kernel has taken everything; called once for each `tell_drained`."""
        raise NotImplementedError

    cdef int call_soon(self, object callback) except -1:
        """Have the loop call `callback` in this connection's context, whichever connection is being served now."""
        raise NotImplementedError

    cdef int abort(self) except -1:
        """Cut the connection; no-op when it is gone."""
        raise NotImplementedError

    cdef int give_up(self, str reason) except -1:
        """Forget what has come and is not handled, and end the connection: its memory is needed."""
        raise NotImplementedError

    cdef uint64_t max_backlog(self, uint64_t usual) noexcept:
        """Return how many bytes may wait for the peer; `usual` unless this connection has a limit of its own."""
        return usual


cdef class Follower:
    cpdef stopped(self, Backlog outbox):
        """Hear that an outbox accepts no more, once; it has everything that was published before."""
        raise NotImplementedError


cdef class Feed(Pending):
    cdef int join(self, Backlog outbox) except -1:
        """Give the outbox what is published from now on. MemoryError: it gets nothing."""
        raise NotImplementedError

    cdef int catch_up(self, Backlog outbox) except -1:
        """Give the outbox pieces for all that it has not seen, or cut it short."""
        raise NotImplementedError

    cdef int leave(self, Backlog outbox) except -1:
        """Give the outbox what was published before, and nothing more. This never fails."""
        raise NotImplementedError

    cdef size_t refill(self, Backlog outbox) except? 0:
        """Queue some of what a lagging outbox lacks; returns how many bytes."""
        raise NotImplementedError

    cdef uint64_t lag(self, Backlog outbox) except? 0:
        """Count the bytes that an outbox lacks and will still get."""
        raise NotImplementedError

    cdef uint64_t unseen(self, Backlog outbox) noexcept:
        """Count the bytes of what was published that an outbox has yet to send or queue."""
        return 0

    cdef bint keep(self, Backlog outbox, object place, object key, Block frame) except -1:
        """Keep a message with a key for an outbox that does not keep up, see `Latest.keep`; False if the policy has
        decided about it instead."""
        raise NotImplementedError

    cdef int enter(self, Backlog outbox, object address) except -1:
        """Give the outbox what is published from now on to a room; no-op if it gets that already. MemoryError: it does
        not get it. `address` is the room's name, or a `UserRoom`."""
        raise NotImplementedError

    cdef int exit(self, Backlog outbox, object address) except -1:
        """Give the outbox nothing more of a room; no-op if it gets nothing. What was published before it still gets."""
        raise NotImplementedError

    cdef int exit_all(self, Backlog outbox) except -1:
        """Give the outbox, which has stopped, nothing more of any room. This never fails."""
        raise NotImplementedError


cdef class Backlog(Pieces):
    """The frames that wait to be sent on one connection."""

    cdef int stop(self) except -1:
        """Accept no more; what was accepted, broadcasts of this turn included, still goes out."""
        if self.state == ACCEPTING:
            self.state = STOPPED
            self.feed.leave(self)
            if self._follower is not None:
                self._follower.stopped(self)
        return 0

    cdef size_t waiting(self) noexcept:
        """Count the bytes that were queued and not taken by the kernel, as far as is known."""
        return self.queued + self.handed

    cdef Budget budget(self):
        return self.feed.turn.budget

    cdef size_t beneath(self) noexcept:
        """Return the bytes that may wait in a transport below the connection's own, while that one holds some."""
        return 0

    cdef size_t held(self) noexcept:
        """Return the bytes of memory that what was handed to the transport takes."""
        return self.handed + self.beneath() if self.handed else 0

    cdef bint leaves(self, size_t unsent) except -1:
        """Note that the transport still holds `unsent` bytes. True if that is less of what it was handed than was known
        before."""
        cdef size_t held = self.held()
        if unsent >= self.handed:
            return False
        self.handed = unsent
        self.budget().give(held - self.held())
        return True

    cdef int forget_handed(self) except -1:
        """Note that the transport holds nothing of what it was handed any more."""
        self.budget().give(self.held())
        self.handed = 0
        return 0

    cdef inline bint drops(self) noexcept:
        return self.feed.policy == DROP_NEWEST or self.feed.policy == DROP_OLDEST

    cdef uint64_t limit(self) noexcept:
        """Return how many bytes may wait."""
        return self.feed.max_backlog if self.owner is None else self.owner.max_backlog(self.feed.max_backlog)

    cdef uint64_t room_left(self) noexcept:
        """Return how many more bytes may wait."""
        cdef uint64_t limit = self.limit()
        return limit - min(limit, <uint64_t>self.waiting())

    cdef bint has_room(self, size_t needed) except -1:
        """True if a frame fits into the backlog. With DROP_OLDEST the oldest frames make way for it. What the transport
        has can not be dropped, so there it counts as sent."""
        if self.feed.policy == DROP_OLDEST:
            return self.make_way(needed, self.limit())
        return needed <= self.room_left()

    cdef int overflow(self, uint64_t messages) except -1:
        """Let the backlog policy decide what follows from `messages` that did not fit."""
        if not (self.drops() or self.overflowed or self.owner is None):
            # Handlers run from the loop, never within a send or a broadcast.
            self.owner.call_soon(self._close_overflowed)
            self.overflowed = True
            self.stop()
        self.lose(messages)
        return 0

    cdef void lose(self, uint64_t messages) noexcept:
        """Count messages that the peer will not get."""
        self.dropped += messages
        self.feed.tally.dropped += messages

    def _log_fields(self):
        """Return the fields of log lines about this connection: a dict for `extra`, or None. The floor above overrides
        this."""
        return None

    cdef int cut_short(self, BaseException error) except -1:
        """Cut the connection: what waits for its peer can not be sent, most often for want of memory."""
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
        """Count the bytes that wait for the peer."""
        return self.waiting() + (self.feed.lag(self) if self.lagging else 0)

    def _precedence(self):
        """Return a sort key: the budget sheds the greatest first. Those that are to be closed for their slowness anyway
        come before those for which most waits."""
        return self.overflowed, self._burden()

    def _shed(self):
        """End the connection. Only the rest of a frame that has begun stays queued, as a copy: what it refers to may be
        large.

        A connection that this would not free of most of its bytes, or whose close frame waits, is cut off. Else all
        connections had to go where none has much."""
        cdef bytes rest
        cdef uint64_t burden = self._burden()
        cdef bint closing = self.state != ACCEPTING
        if self.owner is not None:
            # Handlers run from the loop's calls for this connection.
            self.owner.call_soon(partial(self._close_shed, burden))
        self.overflowed = True  # start_closing() then sends no close frame, but leaves that to _close_shed()
        self.stop()
        self.make_way(0, self.begun)
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
        """Forget all that waits, the rest of a frame that has begun included, and cut the connection."""
        self.fd = -1
        self.stop()
        self.lose(self.begun > 0)
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
        """Take the first `size` bytes, which are sent, from the queue."""
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

    cdef bint make_way(self, size_t needed, uint64_t limit) except -1:
        """Drop the oldest frames until the queue has room for `needed` bytes within `limit`. False if it would
        never have room: then nothing is dropped.

        A peer that reads again must see that this side is alive. So the newest ping and the newest pong stay, if there
        is room for them. Older ones need not (RFC 6455 section 5.5.3: an endpoint may answer the last ping only)."""
        cdef Walk walk
        cdef Controls controls
        cdef size_t excess, size
        cdef uint64_t lost = 0
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
                lost += (controls.sizes[0] > 0) + (controls.sizes[1] > 0)
                controls.sizes[0] = controls.sizes[1] = 0
                break
            head = head_at(&walk)
            size = frame_size(head)
            lost += is_lost(&controls, head, size)
            step(&walk, size)
        self.cut(self.begun, walk.position)
        self.lose(lost)
        if controls.sizes[0] or controls.sizes[1]:
            self.insert_controls(&controls)
        return True

    cdef void start_walk(self, Walk* walk) noexcept:
        """Begin a walk at the first frame of which nothing is sent."""
        walk.piece = self.pieces + self.first
        walk.offset = walk.position = self.begun

    cdef int insert_controls(self, Controls* controls) except -1:
        """Queue copies of the ping and the pong that stay, to be sent next."""
        cdef size_t size = controls.sizes[0] + controls.sizes[1]
        cdef Block block = Block(size, self.budget())
        memcpy(block.data, controls.frames[0], controls.sizes[0])
        memcpy(block.data + controls.sizes[0], controls.frames[1], controls.sizes[1])
        return self.insert(self.begun, block, block.data, size)


cdef inline const uint8_t* head_at(Walk* walk) noexcept:
    """Find the frame's first byte. Its header is whole there: each header was queued in one piece."""
    while walk.offset >= walk.piece.size:
        walk.offset -= walk.piece.size
        walk.piece += 1
    return <const uint8_t*>walk.piece.data + walk.offset


cdef inline void step(Walk* walk, size_t size) noexcept:
    walk.offset += size
    walk.position += size


cdef bint is_lost(Controls* controls, const uint8_t* frame, size_t size) noexcept:
    """True if dropping this frame loses a frame. The newest ping and the newest pong are kept as copies, in place of
    older ones, which are lost. A close frame does not count: it is only dropped with the connection."""
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
