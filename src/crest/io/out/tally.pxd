# What one server has done so far; see tally.pyx.

from libc.stdint cimport uint64_t


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

    cdef void count_close(self, int code) noexcept
