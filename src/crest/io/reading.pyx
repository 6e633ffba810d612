"""Whether one connection is read, and its end while it is not.

Reading pauses while too much of what has come waits for handlers or for the client's rate (`hold`), and while a request
is being answered, which its opening knows (`pause_reading`). The end of the connection stands behind what is not read
then: no read tells of it. The poller does (`left_by_peer`). It watches the transports of crest's own anyway. For a
transport of the loop's there is a `Vigil` as long as it is paused, where there is a poller.

What the peer sent before it left is then read after all, whatever waits: it is no more than the kernel has already, and
counts in the budget. So everything goes on as if reading had not paused. The end is noticed, handlers have
`close_timeout` for what waits, and on_close gets the code of a close frame that is among it.

A plain request is another matter. Its client may close its half, and still await responses, to requests that are not
read yet among others. Only when the connection is gone is the request's answer cancelled.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t

from crest.io.clock cimport milliseconds
from crest.io.closing cimport Closing
from crest.io.heartbeat cimport descriptor_of, hear
from crest.io.poller cimport CREST_FINISHED, CREST_GONE, Pollable, Poller


@cython.final
cdef class Vigil(Pollable):
    """Waits for the end of a connection whose transport is the loop's, and is paused.

    The descriptor is the transport's. So the vigil ends, at the latest, with connection_lost: the transport closes its
    socket after that.
    """

    cdef int ready(self, int events) except -1:
        if not self.reading.left_by_peer(events & CREST_GONE) and self.fd >= 0:
            self.poller.watch(self, CREST_GONE)
        return 0

    cdef int end(self) except -1:
        if self.fd >= 0:
            self.poller.release(self)
            self.fd = -1
        return 0

    cdef int abandoned(self) except -1:
        self.fd = -1
        return self.reading.end_vigil()

    cdef int disowned(self) except -1:
        self.fd = -1
        return self.reading.end_vigil()


cdef class Reading(Closing):
    """Pauses reading, and resumes it."""

    cdef bint is_reading(self) except -1:
        return not self.paused

    cdef int hold(self) except -1:
        """Too many messages wait for their handler: keep the rest of the chunk, and read no more."""
        cdef FrameReader reader = self.reader
        if self.unread is None and reader.at != reader.end:
            self.unread = PyBytes_FromStringAndSize(<char*>reader.at, reader.end - reader.at)
            reader.attach(<uint8_t*>PyBytes_AS_STRING(self.unread), len(self.unread))
        if not self.paused and not self.is_closing():
            self.paused = True
            self.pause_reading()
        return 0

    cdef int unpause(self) except -1:
        if self.paused and not self.is_closing():
            self.paused = False
            self.excuse()
            hear(self, milliseconds(self.turn.clock))  # it was not asked for an answer meanwhile
            self.resume_reading()
        return 0

    cdef int excuse(self) except -1:
        """Nothing was read until now: what comes next may have been sent at any time since."""
        if self.reader.meter is not None:
            self.reader.meter.excuse(milliseconds(self.turn.clock))
        return 0

    cpdef pause_reading(self):
        """Have the transport not read, and the poller tell of the connection's end."""
        self.transport.pause_reading()
        self.begin_vigil()

    cpdef resume_reading(self):
        """Have the transport read again; no-op without one, or if it does."""
        self.end_vigil()
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    # ---- The end, meanwhile --------------------------------------------------------------------------------------

    cdef bint left_by_peer(self, bint gone) except -1:
        """The peer has ended the connection, which is not read: it has closed its half or, if it is gone, both. False
        if that does not matter as long as it is not gone."""
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
        vigil.reading = self
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
