"""What was lost, and is to be told: to the log and to the application, once a second at most."""

cimport cython
from libc.stdint cimport uint64_t

from crest.io.loop.clock cimport Clock, Deadline

import logging

from crest.gap import Gap

logger = logging.getLogger("crest")

cdef double SOON = 0.1              # seconds: what is lost at once is told at once
cdef double PAUSE = 1               # seconds between two words

CAUSES = {
    "slow": "this worker did not read them fast enough",
    "queue": "the worker that sent them could not, and its queue was full",
    "exchange": "the process that relays them was lost",
    "unsent": "they could not be sent to other workers, and the queue was full",
}


@cython.final
cdef class Losses(Deadline):
    """Gathers what was lost.

    Args:
        clock: of the loop.
        on_gap: called with each `Gap`, by the loop; None: the log alone is told.
    """

    def __cinit__(self, Clock clock not None, on_gap=None):
        self.clock = clock
        self.on_gap = on_gap
        self.gathered = {}
        self.totals = dict.fromkeys(CAUSES, 0)

    cdef int note(self, str cause, uint64_t lost, bint uncertain, uint64_t since, uint64_t until) except -1:
        """Take note of messages that were lost. `uncertain`: and of an unknown number of others; times are
        milliseconds."""
        known = self.gathered.get(cause)
        if known is None:
            self.gathered[cause] = [lost, uncertain, since, until]
        else:
            known[0] += lost
            known[1] = known[1] or uncertain
            known[2] = min(known[2], since)
            known[3] = max(known[3], until)
        self.totals[cause] += lost
        if not self.due:
            self.clock.start(self, max(SOON, self.next - self.clock.now()))
            self.due = True
        return 0

    cpdef expired(self):
        """Tell what was lost since the last time."""
        self.due = False
        gathered, self.gathered = self.gathered, {}
        self.next = self.clock.now() + PAUSE
        for cause, (lost, uncertain, since, until) in gathered.items():
            logger.warning("%s messages between workers were lost: %s",
                           f"At least {lost}" if uncertain else lost, CAUSES[cause])
            if self.on_gap is not None and cause != "unsent":
                try:
                    self.on_gap(Gap(None if uncertain else lost, cause, since / 1000, until / 1000))
                except Exception:
                    logger.exception("on_gap failed")

    def stop(self):
        """Tell nothing any more."""
        self.clock.cancel(self)
        self.on_gap = None
