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
from libc.stdint cimport UINT32_MAX, UINT64_MAX, uint8_t, uint32_t, uint64_t

from crest.cpython cimport PyListObject, PyList_GET_SIZE
from crest.io.loop.lists cimport drop_last
from crest.io.loop.turn cimport Block, Turn, begin_section, end_section
from crest.io.out.backlog cimport ACCEPTING, LATEST, Backlog
from crest.io.out.circle cimport Circle, Circles
from crest.io.out.crew cimport CREST_MOST_THREADS, Crew, Part
from crest.io.out.handout cimport Handout
from crest.io.out.latest cimport Latest, Value
from crest.io.out.framelog cimport MOST_BLOCKS
from crest.io.out.offer cimport offer
from crest.io.out.outbox cimport Outbox
from crest.io.out.supply cimport Supply
from crest.io.out.tally cimport Tally
from crest.io.syscalls cimport CREST_WOULD_BLOCK, crest_ends_segment, crest_now, crest_piece, crest_prefetch
from crest.io.syscalls cimport crest_units
from crest.wire.frames cimport MAX_SERVER_HEADER

cdef uint64_t FLUSHED_AT = 1 << 18      # bytes: with so many unsent, a broadcast sends all before it returns
cdef enum:
    SENDS_A_LOOK = 32                   # sends between two looks at the clock
    LEAST_LOGGED = 64                   # members: for so many or fewer, a room's message is not worth a round

cdef ptrdiff_t TIME_OVER = -4      # why send_ready() stopped, if not for what offer() returned


@cython.final
cdef class Fanout(Supply):
    """The connections of one server, and the log of what was broadcast to them.

    Args:
        turn: of the loop that the connections belong to.
        tally: Of the server.
        max_backlog: bytes that may wait for a connection that does not read fast enough.
        policy: what happens past that, a `Policy`.
        slice: seconds after which a round is interrupted.
        ahead: bytes that the system may take ahead of a peer; UINT32_MAX: as many as it likes.
        crew: threads that help when there are very many connections; None: none do.
        user_key: by which a connection's user names its room, see `WebSocketServer`.
    """

    def __cinit__(self, Turn turn not None, Tally tally not None, *, max_backlog, uint8_t policy, double slice,
                  uint32_t ahead=UINT32_MAX, Crew crew=None, str user_key=None):
        self.turn = turn
        self.tally = tally
        self.slice = <uint64_t>(slice * 1e9)
        self.max_backlog = max_backlog
        self.policy = policy
        self.ahead = ahead
        self.segment = crest_units(ahead)
        self.latest = Latest(turn.budget, max_backlog) if policy == LATEST else None
        self.crew = crew
        self.user_key = user_key
        self.members = []
        self.circles = Circles()
        self.handout = Handout(turn, self.slice)

    # ---- Members -------------------------------------------------------------------------------------------------

    cdef int join(self, Backlog outbox) except -1:
        self.members.append(outbox)
        outbox.seen = self.end if self.circle is None else self.start - 1
        outbox.slot = len(self.members) - 1
        self.tally.count_open(1)
        try:
            if outbox._follower is not None:
                self.circles.open(<Outbox>outbox)
            if self.numbers is not None:
                self.numbers[(<Outbox>outbox)._number] = outbox
        except MemoryError:
            self.exit_all(outbox)
            self.remove(outbox.slot)
            raise
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
            if self.numbers is not None:
                self.numbers.pop((<Outbox>outbox)._number, None)
        finally:
            end_section(self.turn)
        return 0

    cdef int remove(self, uint32_t free) except -1:
        """Take out the member at a slot."""
        if self.circle is None and free < self.at:  # its place is for a member that has had its turn in the round, too
            self.at -= 1
            free = self.fill(free, self.at)
        self.fill(free, len(self.members) - 1)
        drop_last(self.members)
        self.tally.count_open(-1)
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

    cdef Outbox find(self, object number):
        """Return the member with a number, or None. From the first call on members are known by number. May be called
        from any thread."""
        cdef Outbox member
        if self.numbers is None:
            self.numbers = numbers = {}  # where those that join meanwhile are noted
            try:
                for member in list(self.members):
                    numbers[member._number] = member
            except MemoryError:
                self.numbers = None
                raise
        member = self.numbers.get(number)
        return member if member is not None and member.state == ACCEPTING else None

    cdef int enter(self, Backlog outbox, object address) except -1:
        cdef Circle circle
        begin_section(self.turn)
        try:
            circle = self.circles.enter(<Outbox>outbox, address)
            if circle is self.circle and outbox.seen < self.start:
                outbox.seen = self.end
        finally:
            end_section(self.turn)
        return 0

    cdef int exit(self, Backlog outbox, object address) except -1:
        cdef Circle circle
        begin_section(self.turn)
        try:
            circle = self.circles.find(address)
            if circle is not None and circle is self.circle:
                self.catch_up(outbox)  # may be too much for the backlog, and end the connection
            if circle is not None and outbox.state == ACCEPTING:
                self.circles.exit(<Outbox>outbox, circle, self.round_in(circle))
                if circle is self.circle:
                    outbox.seen = self.start - 1
        finally:
            end_section(self.turn)
        return 0

    cdef int exit_all(self, Backlog outbox) except -1:
        cdef Circle circle = self.circle
        return self.circles.exit_all(<Outbox>outbox, circle, self.round_in(circle))

    # ---- Publishing ----------------------------------------------------------------------------------------------

    cdef Value supersede(self, object key):
        """Return the `Value` to publish a message with this key with; None where keys mean nothing."""
        return self.latest.supersede(key) if self.latest is not None and self.members else None

    cdef Block prepare(self, list circles, size_t size, tuple excluded, object key, Value value):
        """Make room for a message of so many bytes to the members of circles, before any of them has it.

        `circles`: None stands for all members. `value` stands for a message to all where it supersedes older ones, for
        members that lag. None: it supersedes none. Returns the block for the message; None: there are no members."""
        cdef size_t needed = size + MAX_SERVER_HEADER, count = 0
        cdef Circle circle
        if not (self.members if circles is None else circles):
            return None
        if len(self.blocks) == MOST_BLOCKS:
            self.send_all()
        if circles is not None and (len(circles) > 1 or (key is not None and self.latest is not None)
                                    or not self.takes(<Circle>circles[0])):
            for circle in circles:
                count += circle.count
            return self.handout.prepare(size, count)
        if circles is None:
            self.takes(None)
        if not self.interrupted:
            self.turn.add(self)
        if excluded is not None:
            self.catch_up_all(excluded)
        if value is not None:
            self.latest.announce(value, self.end, needed)
        return self.tail(needed)

    cdef int publish(self, list circles, Block block, uint8_t opcode, const char* data, size_t size, tuple excluded,
                     object key, Value value) except -1:
        """Publish a message that was prepared within the same section. From here on all have it that it is for."""
        cdef uint64_t count
        if block is self.handout.block:
            count = self.handout.deal(circles, opcode, data, &size, excluded, key, self, self.latest)
        else:
            count = self.log(block, opcode, data, &size, excluded, value)
        self.tally.deliveries += count
        self.tally.sent_bytes += size * count
        return 0

    cdef uint64_t log(self, Block block, uint8_t opcode, const char* data, size_t* size, tuple excluded,
                      Value value) except? 0:
        """Write a message to the log. `size` becomes that of its frame; returns how many are to get it."""
        cdef uint64_t count = self.audience()
        size[0] = self.append(block, opcode, data, size[0])
        if value is not None:
            self.latest.record(value, block.data + block.used - size[0], size[0], excluded)
        else:
            self.plain_end = self.end
        if excluded is not None:
            count -= self.pass_over(excluded)
        if value is not None:
            self.latest.bound()
        if self.end - self.start >= FLUSHED_AT or len(self.blocks) == MOST_BLOCKS:
            self.send_all()
        return count

    cdef int catch_up_all(self, tuple excluded) except -1:
        """Give outboxes all that was published, so that `pass_over` can leave out what comes next."""
        cdef Outbox outbox
        for outbox in excluded:
            if outbox.feed is self and outbox.state == ACCEPTING:
                self.catch_up(outbox)
                self.turn.add(outbox)
        return 0

    cdef uint64_t pass_over(self, tuple excluded) except? 0:
        """Have outboxes not get the last message; returns how many would have got it."""
        cdef uint64_t count = 0
        cdef Outbox outbox
        for outbox in excluded:
            if outbox.feed is self and outbox.state == ACCEPTING and self.is_for(outbox):
                outbox.seen = self.end
                count += 1
        return count

    # ---- The log's audience ----------------------------------------------------------------------------------------

    cdef size_t audience(self) noexcept nogil:
        """Count those that the log is for."""
        return PyList_GET_SIZE(self.members) if self.circle is None else self.circle.count

    cdef PyObject** outboxes(self) noexcept nogil:
        return (<PyListObject*>self.members).ob_item if self.circle is None else self.circle.members

    cdef size_t* round_in(self, Circle circle) noexcept:
        """Return how far the round has come that goes through a circle: for what changes its slots."""
        if circle is not self.circle:
            self.nowhere = 0
            return &self.nowhere
        return &self.at

    cdef bint takes(self, Circle circle) except -1:
        """True if the log takes messages for a circle now; None stands for all members.

        It has messages for one audience at a time. If they wait for a smaller one, that one gets them as pieces."""
        if self.start < self.end:
            if circle is self.circle:
                return True
            if circle is not None and circle.count <= max(self.audience(), LEAST_LOGGED):
                return False
            self.settle()
        elif circle is not None and circle.count <= LEAST_LOGGED:
            return False
        self.begin(circle)
        return True

    cdef int begin(self, Circle circle) except -1:
        """Have the log, which is empty, take messages for a circle.

        Positions leave out one: its members, and no others, have one that is not before `start`."""
        cdef uint32_t i
        self.circle = circle
        if circle is not None:
            self.base += 1
            self.start += 1
            self.end += 1
            for i in range(circle.count):
                (<Outbox>circle.members[i]).seen = self.start
        return 0

    cdef bint can_settle(self, size_t count) except -1:
        """True if there is memory to have so many outboxes flushed."""
        try:
            self.handout.prepare(0, count)
        except MemoryError:
            count = 0
        return count > 0

    cdef int settle(self) except -1:
        """Give all that the log is for pieces of it, and empty it."""
        cdef size_t i = self.audience()
        cdef Outbox outbox
        if not self.can_settle(i):
            return self.send_all()
        self.at = 0
        while i:  # backwards: one that stops meanwhile leaves its slot to one that has had its turn
            i -= 1
            outbox = <Outbox>self.outboxes()[i]
            self.catch_up(outbox)
            if outbox.count and not outbox.blocked:
                self.handout.add(outbox)
        self.start = self.end
        return self.clear()

    # ---- Rounds --------------------------------------------------------------------------------------------------

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
                self.ends = self.ends_segment()
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
        cdef size_t count = self.unsent(pieces, self.goal)
        cdef Outbox outbox
        if self.crew is not None:
            self.call_crew(pieces, count, deadline)
        while True:
            with nogil:
                self.at = self.send_ready(pieces, count, deadline, &sent)
            if self.at == self.audience():
                return True
            if sent == TIME_OVER:
                return False
            outbox = <Outbox>self.outboxes()[self.at]
            self.at += 1
            if sent >= 0:
                self.push_rest(outbox, sent)
            if outbox.blocked:
                self.catch_up(outbox)
            else:
                outbox.flush()
            if crest_now() >= deadline:
                return False

    cdef bint ends_segment(self) noexcept:
        """True if the round is to end a segment of TCP. It is counted once for all that get the same rounds."""
        return crest_ends_segment(&self.units if self.circle is None else &self.circle.units, self.segment,
                                  self.goal - self.start)

    cdef int call_crew(self, const crest_piece* pieces, size_t count, uint64_t deadline) except -1:
        """Have the crew send to members that are ready, ahead of `at`. A member that it leaves out has not seen `goal`
        then."""
        cdef Part parts[CREST_MOST_THREADS]
        cdef PyObject* late[CREST_MOST_THREADS]
        cdef Outbox outbox
        cdef size_t i, n
        self.tried = max(self.tried, self.at)
        n = self.crew.serve(
            self.outboxes(), self.audience(), &self.tried, pieces, count, self.start, self.goal,
            self.ends, deadline, parts)
        for i in range(n):  # before slots change
            late[i] = self.outboxes()[parts[i].slot]
            Py_INCREF(<object>late[i])
        for i in range(n):
            outbox = <Outbox>late[i]
            Py_DECREF(outbox)
            self.push_rest(outbox, parts[i].sent)
            outbox.flush()
        return 0

    cdef size_t send_ready(
            self, const crest_piece* pieces, size_t count, uint64_t deadline, ptrdiff_t* sent) noexcept nogil:
        """Send to one member after the other, from `at` on, as long as each takes everything.

        Returns the index of the member at which it stopped. `sent` gets the reason: the bytes that the member took, a
        negative code if none could be offered to it, or TIME_OVER."""
        cdef bint ends = self.ends
        cdef PyObject** members = self.outboxes()
        cdef size_t at = self.at, n = self.audience(), look = at + SENDS_A_LOOK
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
                taken = offer(<Outbox>members[at], pieces, count, start, goal, ends)
                if taken != <ptrdiff_t>(goal - start):
                    sent[0] = 0 if taken == CREST_WOULD_BLOCK else taken
                    return at
            at += 1
        return at
