"""A client's frame reader against `websockets`' client: the same messages, the same end.

It is `differential` on the other side: the deviations are the same, and so is the comparison.

Input: compression, cuts; then the stream.
"""

from fuzz.targets import differential
from support.reference import Event

from crest.wire.role import Role


def check(data: bytes) -> tuple[list[Event], str | None]:
    """crest's events, and the sentence of the deviation, if there is one."""
    return differential.check(data, Role.CLIENT)
