# The two sides of a connection; see role.py, of which this is the twin.

cdef enum:
    SERVER = 0
    CLIENT = 1
