# A worker's side of the exchange; see bus.pyx.

from libc.stdint cimport uint32_t, uint64_t

from crest.cluster.interests cimport Interests, Rooms
from crest.cluster.link cimport Link, Owner
from crest.cluster.losses cimport Losses
from crest.cluster.record cimport Beginning, Record
from crest.cluster.sources cimport Sources
from crest.io.loop.turn cimport Turn
from crest.io.out.hub cimport Hub
from crest.io.out.relay cimport Message, Relay


cdef class Bus(Owner):
    cdef Turn turn
    cdef readonly uint32_t number
    cdef Link link
    cdef readonly Losses losses
    cdef Sources sources
    cdef Interests interests
    cdef dict servers           # Served, by server_id()
    cdef Served latest          # that a message was for; None: none was
    cdef Beginning counted      # messages that were published here
    cdef uint64_t told          # of the link's `lost`
    cdef uint64_t lost_at       # milliseconds: when the exchange was lost; 0: it was not
    cdef readonly uint64_t unknown      # records that mean nothing here
    cdef readonly str process   # the name of this one
    cdef dict listeners         # what is called for a name, see `listen`
    cdef readonly dict numbers  # of other workers, by process
    cdef dict before            # other workers, as they were with exchanges before this one
    cdef double connected_at    # by the clock: when this exchange came
    cdef public object peers    # is told of them, see presence.py; None: nothing is

    cdef int hear(self, const Record* record) except -1
    cdef int send_here(self, const Record* record) except -1
    cdef int receive_left(self, uint32_t number) except -1

    cdef int publish(self, uint32_t server, const Message* message) except -1
    cdef int queue(self, uint32_t server, const Message* message) except -1
    cdef int receive(self, const Record* record) except -1
    cdef int receive_gap(self, const Record* record) except -1
    cdef int receive_start(self, const Record* record) except -1
    cdef int deliver(self, const Record* record) except -1
    cdef Served served(self, uint32_t server)
    cdef bytes introduction(self)


cdef class Served(Relay):
    cdef Bus bus
    cdef Hub hub
    cdef uint32_t server
    cdef Rooms rooms
