# What one server has done so far; see tally.pyx.

from libc.stdint cimport int64_t, uint64_t

from crest.io.loop.ledger cimport Ledger


cdef class Tally:
    cdef uint64_t opened            # connections
    cdef uint64_t* closed           # connections, by code: CODES of them, from FIRST_CODE on
    cdef uint64_t received          # messages
    cdef uint64_t received_bytes    # of frames
    cdef uint64_t sent              # messages that were accepted for one connection
    cdef uint64_t broadcasts        # messages
    cdef uint64_t deliveries        # of broadcasts, one for each connection
    cdef uint64_t sent_bytes        # of frames, those of deliveries included
    cdef uint64_t dropped           # messages, by the backlog's policy
    cdef uint64_t discarded         # messages, for coming over a rate

    cdef uint64_t open              # connections that are open now
    cdef Ledger ledger              # where others read that; None: nowhere
    cdef uint64_t account

    cdef void count_close(self, int code) noexcept
    cdef void count_open(self, int64_t change) noexcept
