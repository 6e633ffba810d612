"""One message to many connections.

A broadcast is framed once, into a log. A connection holds no copy of it, only a position. At the end of the turn a
round begins: each connection gets one send of all that it has not seen. For connections with nothing of their own
queued, the common case, that is a loop without the GIL over their sockets. Only a connection that does not take it all
right away gets pieces of the log's blocks into its outbox. So a slow connection costs pieces that grow, and blocks stay
as long as an outbox has them to send.

A round to very many connections is interrupted after `slice` seconds, so that the loop can serve others. It goes on
in the next turn. What is broadcast meanwhile belongs to the next round.

The fan-out owns the log and the list of members. What a member does with its pieces is the outbox's business.
"""

cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport UINT64_MAX, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from crest.cpython cimport PyListObject, PyList_GET_SIZE, Py_REFCNT
from crest.io.loop.clock cimport TRIES
from crest.io.loop.lists cimport drop_first, drop_last
from crest.io.loop.turn cimport Block, Turn, begin_section, end_section
from crest.io.out.backlog cimport DROP_OLDEST, LATEST, Backlog, Feed
from crest.io.out.crew cimport CREST_MOST_THREADS, Crew, Part
from crest.io.out.latest cimport Latest, Value
from crest.io.out.offer cimport offer
from crest.io.out.outbox cimport Outbox
from crest.io.out.tally cimport Tally
from crest.io.syscalls cimport CREST_WOULD_BLOCK, crest_now, crest_piece, crest_prefetch
from crest.wire.frames cimport MAX_SERVER_HEADER, frame_size, write_header

cdef size_t BLOCK = 1 << 16             # bytes of log that are allocated at a time; a larger frame has its own block
cdef uint64_t FLUSHED_AT = 1 << 18      # bytes: with so many unsent, a broadcast sends all before it returns
cdef size_t REFILLED = 1 << 16          # bytes: a slow member gets about so many at a time of the keyed ones it lacks
cdef enum:
    MOST_BLOCKS = 32                    # with so many blocks unsent, too
    SENDS_A_LOOK = 32                   # sends between two looks at the clock

cdef ptrdiff_t TIME_OVER = -4      # why send_ready() stopped, if not for what offer() returned


@cython.final
cdef class Fanout(Feed):
    """The connections of one server, and the log of what was broadcast to them.

    Args:
        turn: of the loop that the connections belong to.
        tally: Of the server.
        max_backlog: bytes that may wait for a connection that does not read fast enough.
        policy: what happens past that, a `Policy`.
        slice: seconds after which a round is interrupted.
        crew: threads that help when there are very many connections; None: none do.
    """

    def __cinit__(self, Turn turn not None, Tally tally not None, *, max_backlog, uint8_t policy, double slice,
                  Crew crew=None):
        self.turn = turn
        self.tally = tally
        self.slice = <uint64_t>(slice * 1e9)
        self.max_backlog = max_backlog
        self.policy = policy
        self.latest = Latest(turn.budget, max_backlog) if policy == LATEST else None
        self.crew = crew
        self.members = []
        self.blocks = []

    cdef int join(self, Backlog outbox) except -1:
        self.members.append(outbox)
        outbox.seen = self.end
        outbox.slot = len(self.members) - 1
        return 0

    cdef int leave(self, Backlog outbox) except -1:
        begin_section(self.turn)
        try:
            self.catch_up(outbox)
            if outbox.lagging:
                try:
                    if outbox.overflowed:
                        self.latest.give_up(outbox)
                    elif outbox.owner is not None:
                        self.latest.refill(outbox, UINT64_MAX)
                except MemoryError as error:
                    outbox.cut_short(error)
                self.latest.end(outbox)
                self.latest.round_over(self.start)
            self.remove(outbox.slot)
        finally:
            end_section(self.turn)
        return 0

    cdef int remove(self, uint32_t free) except -1:
        """Take out the member at a slot."""
        if free < self.at:  # its place is for a member that has had its turn in the round, too
            self.at -= 1
            free = self.fill(free, self.at)
        self.fill(free, len(self.members) - 1)
        drop_last(self.members)
        if self.latest is not None and not self.members:
            self.latest.forget_all()
        return 0

    cdef uint32_t fill(self, uint32_t free, uint32_t slot) except? 0:
        """Move the member at `slot` to a slot that is free; returns the slot that is free then."""
        cdef Outbox member = self.members[slot]
        if free != slot:
            self.members[free] = member
            member.slot = free
        return slot

    cdef Value supersede(self, object key):
        """Return the `Value` to publish a message with this key with; None where keys mean nothing."""
        return self.latest.supersede(key) if self.latest is not None and self.members else None

    cdef Block prepare(self, size_t size, Value value):
        """Make room for a message of so many bytes, before any member has it.

        `value` stands for the message where it supersedes older ones, for members that lag. None: it supersedes none.
        Returns the log's block for the message; None: there are no members."""
        cdef Block block = None
        cdef size_t needed = size + MAX_SERVER_HEADER
        if not self.members:
            return None
        if len(self.blocks) == MOST_BLOCKS:
            self.send_all()
        if not self.interrupted:
            self.turn.add(self)
        if value is not None:
            self.latest.announce(value, self.end, needed)
        if self.blocks:
            block = self.blocks[len(self.blocks) - 1]
        if block is None or block.room - block.used < needed:
            block = Block(max(needed, BLOCK), self.turn.budget)
            self.blocks.append(block)
        return block

    cdef int publish(self, Block block, uint8_t opcode, const char* data, size_t size, Value value) except -1:
        """Broadcast a message that was prepared within the same section. From here on all members get it."""
        cdef size_t header_size = write_header(<uint8_t*>block.data + block.used, opcode, size)
        memcpy(block.data + block.used + header_size, data, size)
        size += header_size
        if value is not None:
            self.latest.record(value, block.data + block.used, size)
        else:
            self.plain_end = self.end + size
        block.used += size
        self.end += size
        self.tally.deliveries += <uint64_t>len(self.members)
        self.tally.sent_bytes += size * <uint64_t>len(self.members)
        if value is not None:
            self.latest.bound()
        if self.end - self.start >= FLUSHED_AT or len(self.blocks) == MOST_BLOCKS:
            self.send_all()
        return 0

    cdef int send_all(self) except -1:
        while not self.send_until(UINT64_MAX):
            pass
        return 0

    cdef int flush(self) except -1:
        begin_section(self.turn)
        try:
            if not self.send_until(crest_now() + self.slice) and not self.interrupted:
                try:
                    self.turn.loop.call_soon(self._go_on)
                    self.interrupted = True
                except MemoryError:
                    self.send_all()
        finally:
            end_section(self.turn)
        return 0

    def _go_on(self):
        self.interrupted = False
        self.flush()

    cdef bint send_until(self, uint64_t deadline) except -1:
        """Send what is in the log to all members, until `deadline`. True if all is sent."""
        while self.start < self.end:
            if self.at == 0:
                self.goal = self.end
                self.tried = 0
            if not self.serve(deadline):
                return False
            self.at = 0
            self.start = self.goal
            self.clear()
        return True

    cdef bint serve(self, uint64_t deadline) except -1:
        """Go on with the round: send the log up to `goal` to the members from `at` on, until `deadline`. True if all
        members have been served."""
        cdef crest_piece pieces[MOST_BLOCKS]
        cdef ptrdiff_t sent = 0
        cdef size_t count = self.unsent(pieces)
        cdef Outbox outbox
        if self.crew is not None:
            self.call_crew(pieces, count, deadline)
        while True:
            with nogil:
                self.at = self.send_ready(pieces, count, deadline, &sent)
            if self.at == <size_t>len(self.members):
                return True
            if sent == TIME_OVER:
                return False
            outbox = self.members[self.at]
            self.at += 1
            if sent >= 0:
                self.push_rest(outbox, sent)
            if outbox.blocked:
                self.catch_up(outbox)
            else:
                outbox.flush()
            if crest_now() >= deadline:
                return False

    cdef int call_crew(self, const crest_piece* pieces, size_t count, uint64_t deadline) except -1:
        """Have the crew send to members that are ready, ahead of `at`. A member that it leaves out has not seen `goal`
        then."""
        cdef Part parts[CREST_MOST_THREADS]
        cdef PyObject* late[CREST_MOST_THREADS]
        cdef Outbox outbox
        cdef size_t i, n
        self.tried = max(self.tried, self.at)
        n = self.crew.serve(self.members, &self.tried, pieces, count, self.start, self.goal, deadline, parts)
        for i in range(n):  # before slots change
            late[i] = <PyObject*>self.members[parts[i].slot]
            Py_INCREF(<object>late[i])
        for i in range(n):
            outbox = <Outbox>late[i]
            Py_DECREF(outbox)
            self.push_rest(outbox, parts[i].sent)
            outbox.flush()
        return 0

    cdef size_t unsent(self, crest_piece* pieces) except 0:
        """Fill in the pieces of the log from `start` to `goal`; returns how many."""
        cdef size_t count = 0
        cdef uint64_t base = self.base
        cdef Block block
        for block in self.blocks:
            if base >= self.goal:
                break
            pieces[count].owner = <void*>block
            pieces[count].data = block.data
            pieces[count].size = min(block.used, self.goal - base)
            base += block.used
            count += 1
        pieces[0].data += self.start - self.base
        pieces[0].size -= self.start - self.base
        return count

    cdef size_t send_ready(
            self, const crest_piece* pieces, size_t count, uint64_t deadline, ptrdiff_t* sent) noexcept nogil:
        """Send to one member after the other, from `at` on, as long as each takes everything.

        Returns the index of the member at which it stopped. `sent` gets the reason: the bytes that the member took, a
        negative code if none could be offered to it, or TIME_OVER."""
        cdef PyObject** members = (<PyListObject*>self.members).ob_item
        cdef size_t at = self.at, n = PyList_GET_SIZE(self.members), look = at + SENDS_A_LOOK
        cdef uint64_t start = self.start, goal = self.goal
        cdef ptrdiff_t taken
        while at < n:
            if at + 2 < n:
                crest_prefetch(members[at + 2])
            if (<Outbox>members[at]).seen >= goal:  # the crew has sent to it
                look += 1
            else:
                if at >= look:
                    if crest_now() >= deadline:
                        sent[0] = TIME_OVER
                        return at
                    look = at + SENDS_A_LOOK
                taken = offer(<Outbox>members[at], pieces, count, start, goal)
                if taken != <ptrdiff_t>(goal - start):
                    sent[0] = 0 if taken == CREST_WOULD_BLOCK else taken
                    return at
            at += 1
        return at

    cdef int catch_up(self, Backlog outbox) except -1:
        """Give the outbox pieces for all of the log that it has not seen, as far as its backlog allows."""
        cdef int tries = TRIES
        while outbox.seen < self.end:
            tries -= 1
            try:
                self.pull(outbox)
            except MemoryError as error:
                if not tries or outbox.seen == self.end:
                    outbox.cut_short(error)
                    outbox.seen = self.end
        return 0

    cdef int pull(self, Backlog outbox) except -1:
        cdef uint64_t position = outbox.seen, stop = self.end, refused = 0
        if self.latest is not None and (outbox.blocked or outbox.lagging):
            return self.skip_keyed(outbox)
        if outbox.blocked and stop - position > outbox.room_left():
            if self.policy == DROP_OLDEST:
                return self.push_newest(outbox)
            stop = self.fitting(position, stop, outbox.room_left(), &refused)
        self.push_range(outbox, position, stop)
        outbox.seen = self.end
        if refused:
            outbox.overflow(refused)
        return 0

    cdef int push_rest(self, Outbox outbox, size_t sent) except -1:
        """Queue the rest of the frame of which a member took a part, as it took `sent` bytes of the round. It has not
        seen what follows that frame."""
        cdef uint64_t base = self.base, position = self.start + sent, at = self.start
        cdef Block block
        for block in self.blocks:
            while at < position and at < base + block.used:
                at += frame_size(<const uint8_t*>block.data + (at - base))
            base += block.used
        try:
            self.push_range(outbox, position, at)
            outbox.begun = at - position
            if self.latest is not None:
                self.latest.begin(outbox, self.latest.find(at, 0))
        except MemoryError as error:
            outbox.seen = at
            outbox.cut_short(error)
        outbox.seen = at
        return 0

    cdef int skip_keyed(self, Backlog outbox) except -1:
        """Queue unkeyed messages for a blocked or lagging outbox. It lags from the first keyed one on: `Latest`
        delivers the newest of each key later."""
        cdef uint64_t position = outbox.seen, stop, fits, refused = 0
        cdef size_t index
        if outbox.lagging and position >= self.plain_end:
            outbox.seen = self.end
            return 0
        index = self.latest.find(position, 0)
        self.latest.begin(outbox, index)
        while position < self.end:
            stop = self.latest.position_of(index, self.end)
            fits = stop
            if refused or stop - position > outbox.room_left():
                fits = self.fitting(position, stop, outbox.room_left(), &refused)
            self.push_range(outbox, position, fits)
            position = self.latest.end_of(index, self.end)
            index += 1
        outbox.seen = self.end
        if refused:
            outbox.overflow(refused)
        return 0

    cdef size_t refill(self, Backlog outbox) except? 0:
        cdef size_t pushed = 0
        self.catch_up(outbox)
        if outbox.lagging:
            pushed = self.latest.refill(outbox, REFILLED)
            if not outbox.lagging:
                self.latest.round_over(self.start)
        return pushed

    cdef uint64_t lag(self, Backlog outbox) except? 0:
        return self.latest.lag(outbox)

    cdef int push_newest(self, Backlog outbox) except -1:
        """Push frame by frame what the outbox has not seen: the oldest frames make way for newer ones."""
        cdef uint64_t base = self.base, at = outbox.seen, size, refused = 0
        cdef Block block
        outbox.seen = self.end
        for block in self.blocks:
            while base <= at < base + block.used:
                size = frame_size(<const uint8_t*>block.data + (at - base))
                if outbox.has_room(size):
                    outbox.push_shared(block, block.data + (at - base), size)
                else:
                    refused += 1
                at += size
            base += block.used
        return outbox.overflow(refused)

    cdef int push_range(self, Backlog outbox, uint64_t position, uint64_t stop) except -1:
        """Give the outbox pieces for the log between two positions. `seen` moves with each piece: after a MemoryError
        it tells what the outbox has got."""
        cdef uint64_t base = self.base
        cdef uint64_t upto
        cdef Block block
        for block in self.blocks:
            upto = min(stop, base + block.used)
            if position < upto:
                outbox.push_shared(block, block.data + (position - base), upto - position)
                outbox.seen = position = upto
            base += block.used
        return 0

    cdef uint64_t fitting(self, uint64_t position, uint64_t stop, uint64_t size, uint64_t* refused) except? 0:
        """Find the end of the last frame that fits, if the frames from `position` on may take `size` bytes together.

        A frame begins at `position`, and one at `stop`. `refused` grows by the number of frames in between that do not
        fit. If it is not 0 at the call, none fits."""
        cdef uint64_t base = self.base, at = position, fits = position, limit = position + size
        cdef const uint8_t* head
        cdef Block block
        for block in self.blocks:
            while base <= at < min(base + block.used, stop):
                head = <const uint8_t*>block.data + (at - base)
                at += frame_size(head)
                if at <= limit and refused[0] == 0:
                    fits = at
                else:
                    refused[0] += 1
            base += block.used
        return fits

    cdef int clear(self) except -1:
        """Let go of the blocks before `start`: each member has their bytes, or pieces of them. One block is kept to go
        on with. Its memory is used again from the beginning, unless an outbox still has pieces of it."""
        cdef Block block = self.blocks[0]
        if self.latest is not None:
            self.latest.round_over(self.start)
        while self.base + block.used <= self.start and len(self.blocks) > 1:
            self.base += block.used
            drop_first(self.blocks)
            block = self.blocks[0]
        if self.start < self.end:
            return 0
        if block.room > BLOCK:
            drop_last(self.blocks)
            self.base = self.end
        elif Py_REFCNT(<PyObject*>block) == 2:  # the list, and this function
            block.used = 0
            self.base = self.end
        return 0
