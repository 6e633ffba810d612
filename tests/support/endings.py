"""Ways to end a connection, and whether its descriptor is left."""

import os

from support.ends import End


def close(end: End) -> None:
    end.transport.close()


def abort(end: End) -> None:
    end.transport.abort()


def is_open(fd: int) -> bool:
    """Whether this process has such a descriptor."""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
