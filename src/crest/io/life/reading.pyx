"""Reading of one connection, its pauses, and the connection's end during a pause.

Reading pauses while too much of what has come waits for handlers, or for the client's rate (`hold`). It also pauses
while a request is being answered: its opening knows that, and calls `pause_reading`.

During a pause no read tells of the connection's end, for it stands behind unread bytes. The poller tells of it
(`left_by_peer`). It watches the transports of crest's own anyway. Where there is a poller, a transport of the loop's
has a `Vigil` as long as it is paused.

What the peer sent before it left is then read after all, whatever waits. It is no more than the kernel has already, and
counts in the budget. So everything goes on as if reading had not paused. The end is noticed. Handlers have
`close_timeout` for what waits. on_close gets the code of a close frame, if one is among it.

A plain request is another matter. Its client may close its half and still await responses, even to requests that are
not read yet. So the request's answer is cancelled only when the connection is gone.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint64_t

from crest.io.life.host cimport Host
from crest.io.life.inbox cimport Inbox
from crest.io.life.phase cimport after
from crest.io.life.signs cimport descriptor_of
from crest.io.loop.clock cimport milliseconds
from crest.io.loop.poller cimport CREST_FINISHED, CREST_GONE, Pollable, Poller
from crest.wire.frames cimport FrameReader


@cython.final
cdef class Vigil(Pollable):
    """Waits for the end of a connection whose transport is the loop's, and is paused.

    The descriptor is the transport's, which closes its socket after connection_lost. So the vigil ends with that call
    at the latest.
    """

    cdef int ready(self, int events) except -1:
        if not self.host.left_by_peer(events & CREST_GONE) and self.fd >= 0:
            self.poller.watch(self, CREST_GONE)
        return 0

    cdef int end(self) except -1:
        if self.fd >= 0:
            self.poller.release(self)
            self.fd = -1
        return 0

    cdef int abandoned(self) except -1:
        self.fd = -1
        self.host.turn.vigils.pop(self.host, None)
        return 0

    cdef int disowned(self) except -1:
        return self.abandoned()


cdef class Reading(Host):
    """Pauses reading, and resumes it."""

    cdef int step(self, uint8_t step) noexcept:
        """Take a step: the phase changes as phase.pyx says."""
        self.phase = after(self.phase, step)
        return 0

    cdef int keep(self, int kind, uint64_t size) except -1:
        """Have so many bytes of this kind count in the budget from now on."""
        cdef Inbox inbox = self.inbox
        if inbox is None:
            if not size:
                return 0
            inbox = self.inbox = Inbox.__new__(Inbox, self.turn.budget, self)
        inbox.hold(kind, size)
        if inbox.is_empty():
            self.inbox = None
        return 0

    cdef bint is_closing(self) except -1:
        """True if the transport has ended or is about to: it must not be called any more."""
        return self.transport is None or self.transport.is_closing()

    cdef int hold(self) except -1:
        """Keep the rest of the chunk, and read no more: too many messages wait, or the client is over its rate."""
        cdef FrameReader reader = self.reader
        if self.unread is None and reader.at != reader.end:
            self.unread = PyBytes_FromStringAndSize(<char*>reader.at, reader.end - reader.at)
            reader.attach(<uint8_t*>PyBytes_AS_STRING(self.unread), len(self.unread))
        if not self.paused and not self.is_closing():
            self.paused = True
            self.pause_reading()
        return 0

    cdef bint unpause(self) except -1:
        """Read again. True if reading had paused."""
        if not self.paused or self.is_closing():
            return False
        self.paused = False
        self.excuse()
        self.resume_reading()
        return True

    cdef int excuse(self) except -1:
        """Have the meter excuse what comes next. Nothing was read until now, so it may have been sent at any time of
        the pause."""
        if self.reader.meter is not None:
            self.reader.meter.excuse(milliseconds(self.turn.clock))
        return 0

    cpdef pause_reading(self):
        """Have the transport not read, and the poller tell of the connection's end."""
        self.transport.pause_reading()
        self.begin_vigil()

    cpdef resume_reading(self):
        """Have the transport read again; no-op if it does already, or if there is none."""
        self.end_vigil()
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    # ---- The end, meanwhile --------------------------------------------------------------------------------------

    cdef bint left_by_peer(self, bint gone) except -1:
        if self.opening is None:
            if self.reader is not None:
                self.excuse()
        elif gone:
            self.abort()
            return True
        elif not self.opening.left_by_client():
            return False
        self.resume_reading()
        return True

    cdef int begin_vigil(self) except -1:
        cdef Vigil vigil
        cdef Poller poller = self.turn.poller
        if poller is None or poller.fd < 0 or isinstance(self.transport, Pollable) or self in self.turn.vigils:
            return 0
        vigil = Vigil()
        vigil.poller = poller
        vigil.host = self
        vigil.fd = descriptor_of(self.transport)
        if vigil.fd < 0:
            return 0
        self.turn.vigils[self] = vigil
        try:
            poller.keep(vigil)
            poller.watch(vigil, CREST_FINISHED | CREST_GONE)
        except BaseException:
            self.end_vigil()
            raise
        return 0

    cdef int end_vigil(self) except -1:
        cdef Vigil vigil
        if self.turn.vigils:
            vigil = self.turn.vigils.pop(self, None)
            if vigil is not None:
                vigil.end()
        return 0
