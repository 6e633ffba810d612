"""The two sides of a connection: which of them masks its frames (RFC 6455 section 5.1), and for which one reads.

A leaf of the floor. Frames, compression and the opening handshake differ by side; each says how in its own module.
`role.pxd` holds the same numbers as compile-time constants.
"""

from enum import IntEnum


class Role(IntEnum):
    """A side of a connection."""

    SERVER = 0
    """Reads frames that are masked, and sends frames that are not."""

    CLIENT = 1
    """Reads frames that are not masked, and masks each that it sends with a fresh key."""
