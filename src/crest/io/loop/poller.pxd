# Readiness of sockets; see poller.pyx.

from libc.stdint cimport uint8_t

cdef extern from "poll.h" nogil:
    const bint CREST_POLL
    ctypedef struct crest_event:
        void* token
        int ready
    enum:
        CREST_READABLE
        CREST_WRITABLE
        CREST_FINISHED
        CREST_GONE
        CREST_EVENTS_A_CALL
    int crest_poll_open()
    int crest_poll_change(int poll, int fd, int before, int after, void* token)
    int crest_poll_ready(int poll, crest_event* events, int milliseconds)


cdef class Pollable:
    cdef public int fd              # -1: closed
    cdef uint8_t watched            # the events of poll.h that it is watched for; the poller changes this
    cdef uint8_t encrypts           # only its own code may send to the descriptor
    cdef uint8_t segment            # units that a segment may have that waits; 0: any number. See syscalls.h
    cdef uint8_t stalled            # nothing is read until the peer has taken TLS's answers; see secure.pyx
    cdef int ready(self, int events) except -1
    cdef int abandoned(self) except -1
    cdef int disowned(self) except -1


cdef class Poller:
    cdef readonly object loop
    cdef int fd                     # -1: closed
    cdef list kept                  # pollables, each at the place of its descriptor
    cdef crest_event* events        # room for CREST_EVENTS_A_CALL
    cdef int told                   # how many of them were found ready, and are being told
    cdef int keep(self, Pollable pollable) except -1
    cdef int watch(self, Pollable pollable, int events) except -1
    cdef int release(self, Pollable pollable) except -1
    cdef int poll(self) except -1
    cdef int serve(self, int milliseconds) except -1
    cdef int end(self) except -1
    cdef int disown(self) except -1
