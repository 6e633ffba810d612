# The newest message of each key; see latest.pyx.

from libc.stdint cimport uint64_t

from crest.io.loop.budget cimport Budget
from crest.io.loop.turn cimport Block
from crest.io.out.backlog cimport Backlog


cdef class Value:
    cdef object key
    cdef Block frame            # None: it was superseded, or is not in the log yet
    cdef Block announced        # room for the frame, until it is recorded
    cdef uint64_t position      # in the log
    cdef uint64_t size          # in the log
    cdef tuple excluded         # outboxes that do not get it; None: there are none
    cdef Value older            # the one that it supersedes, until it is in the log
    cdef uint64_t number        # among keyed messages
    cdef uint64_t ahead         # bytes of the newest from here on, if Latest.summed


cdef class Newest:
    cdef object values          # OrderedDict: Value by (place, key)
    cdef uint64_t size          # bytes
    cdef int put(self, Value value, Value older) except -1
    cdef Value first(self)
    cdef int forget_first(self) except -1
    cdef size_t count(self) except? 0


cdef class Latest:
    cdef Budget budget
    cdef uint64_t max_backlog
    cdef dict newest            # Value of each key
    cdef list order             # Value: the newest, and superseded ones in between, by number
    cdef dict behind            # for each outbox that lags: the number of the first message that it lacks
    cdef dict own               # Newest of each outbox that lacks messages which not all get
    cdef uint64_t count         # keyed messages so far
    cdef uint64_t size          # bytes of the newest
    cdef bint summed            # nothing was recorded since `ahead` was summed up

    cdef Value supersede(self, object key)
    cdef int announce(self, Value value, uint64_t position, size_t room) except -1
    cdef int record(self, Value value, const char* data, size_t size, tuple excluded) except -1
    cdef int retire(self, Value value) except -1
    cdef int bound(self) except -1
    cdef uint64_t position_of(self, size_t index, uint64_t otherwise) except? 0
    cdef uint64_t end_of(self, size_t index, uint64_t otherwise) except? 0
    cdef size_t find(self, uint64_t position, uint64_t number) except? 0
    cdef int begin(self, Backlog outbox, size_t index) except -1
    cdef size_t refill(self, Backlog outbox, size_t most) except? 0
    cdef size_t next_for(self, Backlog outbox) except? 0
    cdef uint64_t number_of(self, size_t index) except? 0
    cdef bint keep(self, Backlog outbox, object place, object key, Block frame) except -1
    cdef int end(self, Backlog outbox) except -1
    cdef int give_up(self, Backlog outbox) except -1
    cdef uint64_t lag(self, Backlog outbox) except? 0
    cdef int sum_up(self) except -1
    cdef int round_over(self, uint64_t start) except -1
    cdef int forget_all(self) except -1

    cdef int close_slowest(self) except -1
    cdef int forget_before(self, uint64_t number) except -1
