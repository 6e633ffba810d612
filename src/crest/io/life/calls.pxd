# Calls of the application's handlers; see calls.pyx.

from libc.stdint cimport uint8_t

from crest.io.life.host cimport Host

# The events that handlers are called for.
cdef enum Event:
    CONNECT
    MESSAGE
    BINARY
    CLOSE
    ERROR
    DRAIN

cdef object call(Host host, Event event, object first, object second, uint8_t* awaited)
cdef object handler_failed(Host host, Event event, object handler, BaseException error, uint8_t* awaited)
cdef int log_error(Host host, str text, BaseException error) except -1
cdef int log_close(Host host, int code, str reason) except -1
cdef str name_of(object handler)
