"""Signs of life and of progress that a peer gives without sending anything: the kernel and the transport know of them.

A peer is not to blame for an answer that it could not send, or that crest did not read. So it has not failed to answer
while bytes of it are unread (`has_input`): a handler blocks the loop. Nor has it while it still takes what was sent
before the ping (`acknowledges`): it is slow.

While crest itself does not read, unread bytes say nothing. They may be old, and the answer to a ping may have no room
behind them. The peer's kernel still acknowledges what is sent. So the peer is alive unless its kernel owes an
acknowledgement and nothing at all has come (`is_silent`). Where crest's kernel does not tell, its own time-out for
unacknowledged bytes ends the connection.
"""

from libc.stdint cimport UINT32_MAX, uint32_t

from crest.io.loop.poller cimport Pollable
from crest.io.syscalls cimport crest_has_input, crest_is_silent, crest_takes_output


cdef int descriptor_of(object transport) except? -1:
    """Return the descriptor of the socket, of crest's transport or of the loop's; -1: there is none."""
    if isinstance(transport, Pollable):
        return (<Pollable>transport).fd
    sock = transport.get_extra_info("socket")
    return -1 if sock is None else sock.fileno()


cdef bint has_input(object transport) except -1:
    """True if bytes of the peer wait to be read because the loop was busy.

    False where crest does not read because the peer takes none of TLS's answers."""
    if isinstance(transport, Pollable) and (<Pollable>transport).stalled:
        return False
    return crest_has_input(descriptor_of(transport))


cdef bint is_silent(object transport, Seen* seen) except -1:
    """True if nothing has come from the peer's kernel since the last look, though it owes acknowledgements."""
    return crest_is_silent(descriptor_of(transport), &seen.acknowledged)


cdef bint acknowledges(object transport, Seen* seen) except -1:
    """True if the peer's kernel has acknowledged some of what was sent since the last look, and owes more."""
    return crest_takes_output(descriptor_of(transport), &seen.acknowledged)


cdef bint takes_response(object transport, Seen* seen) except -1:
    """True if a plain HTTP client has taken some of its response since the last look, and more is pending."""
    cdef uint32_t before = seen.unsent
    seen.unsent = min(<size_t>transport.get_write_buffer_size(), <size_t>UINT32_MAX)
    return acknowledges(transport, seen) or 0 < seen.unsent < before
