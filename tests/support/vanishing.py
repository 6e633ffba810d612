"""Peers that vanish, on Linux: their kernel drops whatever comes, and acknowledges nothing."""

import ctypes
import socket
import struct

SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
RETURN_NOTHING = struct.pack("HBBI", 0x06, 0, 0, 0)
"""BPF_RET | BPF_K: keep none of a packet."""


def vanish(sock: socket.socket) -> None:
    """Have a TCP socket's kernel drop what comes for it from now on."""
    program = ctypes.create_string_buffer(RETURN_NOTHING)
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HxxxxxxP", 1, ctypes.addressof(program)))


def come_back(sock: socket.socket) -> None:
    """Have it take what comes again."""
    sock.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
