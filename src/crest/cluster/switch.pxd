# The links of an exchange; see switch.pyx.

from crest.cluster.link cimport Owner
from crest.cluster.router cimport Router
from crest.io.loop.clock cimport Deadline
from crest.io.loop.turn cimport Turn


cdef class Switch(Owner):
    cdef Turn turn
    cdef readonly Router router
    cdef readonly dict ports    # Port, by Link
    cdef dict told              # messages that were dropped, by Link, as the log knows it
    cdef Telling telling
    cdef bint due               # `telling` runs


cdef class Telling(Deadline):
    cdef Switch switch
