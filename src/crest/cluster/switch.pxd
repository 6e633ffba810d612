# The links of an exchange; see switch.pyx.

from crest.cluster.link cimport Link, Owner
from crest.cluster.router cimport Port, Router
from crest.io.loop.clock cimport Deadline
from crest.io.loop.turn cimport Turn


cdef class Switch(Owner):
    cdef Turn turn
    cdef readonly Router router
    cdef readonly dict ports    # Port, by Link
    cdef dict told              # messages that were dropped, by Link, as the log knows it
    cdef Telling telling
    cdef bint due               # `telling` runs

    cdef Port forget(self, Link link)


cdef class Telling(Deadline):
    cdef Switch switch
