# The way of broadcasts to other processes; see relay.pyx.

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t

# A message to many. What it refers to is borrowed.
cdef struct Message:
    uint8_t opcode
    const char* data
    size_t size
    PyObject* key               # any object, or None
    bint compress
    PyObject* to                # a tuple of addresses, or None: to all
    PyObject* excluded          # a tuple of outboxes, or None
    bint local                  # it is not relayed


cdef class Relay:
    cdef int check(self, object key) except -1
    cdef int relay(self, const Message* message) except -1
