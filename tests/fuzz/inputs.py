"""How a fuzz target reads its input: a few bytes that decide, then the bytes that are tested.

What decides stands in front, one byte each, so that libFuzzer's mutations of the rest leave it alone; bytes that are
missing count as zero, so that every input is one.
"""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Input:
    """Reads an input from its front."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1] if self.at <= len(self.data) else 0

    def choose(self, options: Sequence[T]) -> T:
        return options[self.byte() % len(options)]

    def rest(self) -> bytes:
        """Everything that is left."""
        data, self.at = self.data[self.at :], len(self.data)
        return data

    def chunks(self) -> list[bytes]:
        """Everything that is left, cut in any way: each to so many bytes, or, below 128, up to seven of any lengths."""
        kind = self.byte()
        if kind >= 128:
            return pieces(self.rest(), [kind - 127] * len(self.data))
        sizes = [self.byte() for _ in range(kind % 8)]
        return pieces(self.rest(), sizes)


def pieces(data: bytes, sizes: Sequence[int]) -> list[bytes]:
    """Data in chunks of these sizes, what is left in one more; none of them is empty."""
    found, at = [], 0
    for size in sizes:
        found.append(data[at : at + size])
        at += size
        if at >= len(data):
            break
    found.append(data[at:])
    return [chunk for chunk in found if chunk]
