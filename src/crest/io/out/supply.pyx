"""What an outbox gets of the log that could not be sent to it right away: pieces, as its policy lets them in.

With the policy "latest", keyed messages are left out for an outbox that is blocked or lags: `Latest` has them.
"""

from libc.stdint cimport uint64_t

from crest.io.loop.clock cimport TRIES
from crest.io.loop.turn cimport Block
from crest.io.out.backlog cimport DROP_OLDEST, Backlog
from crest.io.out.framelog cimport Log
from crest.io.out.outbox cimport Outbox

cdef size_t REFILLED = 1 << 16          # bytes: a slow member gets about so many at a time of the keyed ones it lacks


cdef class Supply(Log):
    cdef bint is_for(self, Backlog outbox) noexcept:
        """True if the outbox lacks some of the log, and is to get it."""
        return outbox.seen < self.end and (self.circle is None or outbox.seen >= self.start)

    cdef uint64_t unseen(self, Backlog outbox) noexcept:
        return self.end - max(outbox.seen, self.start) if self.is_for(outbox) else 0

    cdef int catch_up(self, Backlog outbox) except -1:
        """Give the outbox pieces for all of the log that it has not seen, as far as its backlog allows."""
        cdef int tries = TRIES
        if outbox.seen < self.start:
            if self.circle is not None:
                return 0  # the log is not for this outbox
            outbox.seen = self.start
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
                return outbox.overflow(self.push_each(outbox))
            stop = self.fitting(position, stop, outbox.room_left(), &refused)
        self.push_range(outbox, position, stop)
        outbox.seen = self.end
        if refused:
            outbox.overflow(refused)
        return 0

    cdef int push_rest(self, Outbox outbox, size_t sent) except -1:
        """Queue the rest of the frame of which a member took a part, as it took `sent` bytes of the round. It has not
        seen what follows that frame."""
        cdef uint64_t position = self.start + sent, at = self.frame_end(position)
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
        if outbox.lagging and position >= self.plain_end and outbox in self.latest.behind:
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

    cdef bint keep(self, Backlog outbox, object place, object key, Block frame) except -1:
        return self.latest.keep(outbox, place, key, frame)

    cdef int clear(self) except -1:
        """Let go of the log before `start`: each member has that, or pieces of it."""
        if self.latest is not None:
            self.latest.round_over(self.start)
        if self.start == self.end:
            self.circle = None
        return self.release()
