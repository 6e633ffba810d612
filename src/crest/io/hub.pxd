# What the connections of one server share; see hub.pyx.

from libc.stdint cimport uint32_t, uint64_t

from crest.io.fanout cimport Fanout


cdef class Hub:
    cdef public object on_connect, on_message, on_binary, on_close, on_error, on_drain
    cdef readonly uint64_t max_message_size, max_backlog
    cdef readonly uint32_t max_fragments, max_queue
    cdef readonly double close_timeout, fanout_slice
    cdef readonly str on_backlog
    # Milliseconds: of the heartbeat (0: off), and after which handlers are named as blocking the loop.
    cdef readonly uint32_t ping_interval, ping_timeout, idle_timeout, slow_handler
    cdef uint32_t calls[6]      # of handlers, by Event, since one of the connections began to be served
    cdef Fanout fanout          # None: no loop serves this
