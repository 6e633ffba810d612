# What the connections of one server share; see hub.pyx.

from libc.stdint cimport uint32_t, uint64_t

from crest.io.loop.turn cimport Turn
from crest.io.out.crew cimport Crew
from crest.io.out.deflation cimport Compression
from crest.io.out.fanout cimport Fanout
from crest.io.out.interest cimport Interest
from crest.io.out.outbox cimport Outbox
from crest.io.out.relay cimport Message, Relay
from crest.io.out.tally cimport Tally
from crest.wire.frames cimport FrameReader
from crest.wire.meter cimport Rates


cdef class Hub:
    cdef public object on_connect, on_message, on_binary, on_close, on_error, on_drain
    cdef public bint drains_at_once     # on_drain is a plain function that waits for no handler before it
    cdef readonly uint64_t max_message_size, max_backlog
    cdef readonly uint32_t max_fragments, max_queue, fanout_threads
    cdef readonly uint32_t send_ahead   # bytes; UINT32_MAX: as many as the system likes
    cdef readonly double close_timeout, fanout_slice
    cdef readonly str on_backlog
    cdef readonly Rates rates   # None: clients may send as fast as they can
    # Milliseconds: the heartbeat's (0: off), and those after which the log names handlers as blocking the loop.
    cdef readonly uint32_t ping_interval, ping_timeout, idle_timeout, slow_handler
    cdef uint32_t calls[6]      # of handlers, by Event, since the loop began to serve the current connection
    cdef uint32_t mistake_told  # milliseconds: when a client's mistake was logged last
    cdef uint32_t mistakes      # 0: none was logged; else 1, and one more for each since that was not
    cdef str user_key
    cdef object deflate         # Deflate; None: nothing is compressed
    cdef readonly Tally tally
    cdef Crew crew              # None: no threads help with the fan-out
    # None: no loop serves this.
    cdef Fanout fanout          # of the connections that do not compress
    cdef Fanout compressing     # of those that do; None, as is `compression`, where nothing is compressed
    cdef Compression compression
    cdef object __weakref__
    cdef public Relay relay     # gets each broadcast that is not local; None: they stay here
    cdef Interest interest      # is told which rooms have members; None: nothing is
    cdef dict options           # that it was made with
    cdef object made            # variants of this for some of the connections, by their limits; weak references
    cdef Hub origin             # the hub that this is a variant of, or None

    cpdef broadcast(self, text, key=*, bint compress=*, to=*, exclude=*, bint local=*)
    cpdef broadcast_binary(self, data, key=*, bint compress=*, to=*, exclude=*, bint local=*)
    cdef Fanout new_fanout(self, Turn turn)
    cdef Fanout admit(self, Outbox connection, object agreed)
    cdef FrameReader new_reader(self, object agreed, uint32_t now)
    cdef int publish_soon(self, Message* message, object owner) except -1
    cdef int check_key(self, object key, bint local) except -1
    cdef int tell_interest(self) except -1
    cdef int post(self, Fanout plain, Fanout compressing, Message* message, object owner) except -1
    cdef int publish_and_relay(self, Message* message) except -1
    cdef int publish(self, const Message* message) except -1
