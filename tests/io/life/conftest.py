"""Gives the tests a server that pings."""

from collections.abc import Iterator

import pytest
from support.beating import INTERVAL, TIMEOUT
from support.link import Scene, scene


@pytest.fixture
def beating(direct: bool) -> Iterator[Scene]:
    """A server that pings."""
    with scene(direct=direct, ping_interval=INTERVAL, ping_timeout=TIMEOUT) as made:
        yield made
