"""Servers whose connections have agreed on permessage-deflate; see link.py."""

from __future__ import annotations

from crest.wire.extensions import Agreement, Deflate, negotiate
from support.link import Link, Scene


def agreement(options: Deflate, **offered: str | None) -> Agreement:
    """What comes of a client's offer."""
    agreed = negotiate([("permessage-deflate", [("client_max_window_bits", None), *offered.items()])], options)
    assert agreed is not None
    return agreed


class Compressing(Scene):
    """A scene whose links agree on compression, unless they are told not to."""

    def __init__(self, direct: bool, options: Deflate, **limits: object) -> None:
        super().__init__(direct=direct, deflate=options, **limits)
        self.options = options

    def client(self, **offered: str | None) -> Link:
        return self.link(agreed=agreement(self.options, **offered))
