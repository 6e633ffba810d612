# What the exchange does with records; see router.pyx.

from libc.stdint cimport uint32_t, uint64_t

from crest.cluster.outgoing cimport Outgoing
from crest.cluster.record cimport Beginning, Record
from crest.io.loop.turn cimport Block


cdef class Port:
    cdef readonly uint32_t number
    cdef readonly Outgoing queue
    cdef set interests          # (server, address) of each
    cdef uint64_t mark          # of the last record with addresses that it got
    cdef bint started           # it has said what follows
    cdef Beginning beginning    # with the last sequences that have come from there


cdef class Router:
    cdef readonly list ports
    cdef dict servers           # of each: a dict of addresses, and the list of ports that are interested in one
    cdef readonly uint64_t unknown      # records of an unknown kind
    cdef uint64_t serial        # of records with addresses
    cdef uint32_t server        # whose addresses `rooms` are
    cdef dict rooms             # None: of none

    cdef int connect(self, Port port) except -1
    cdef int disconnect(self, Port port) except -1
    cdef size_t receive(self, Port origin, Block block, const char* data, size_t size) except? 0
    cdef size_t route_all(self, Port origin, Block block, const char* data, size_t size) except? 0
    cdef int spread(self, Port origin, Block block, const char* data, size_t size) except -1
    cdef int route(self, Port origin, Block block, const char* data, const Record* record) except -1
    cdef int follow(self, Port origin, const Record* record) except -1
    cdef int unfollow(self, Port origin, const Record* record) except -1
    cdef dict rooms_of(self, uint32_t server)
