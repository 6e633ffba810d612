"""Gives the tests a scene in each of the two ways to write."""

import ssl
from collections.abc import Iterator

import pytest
from support.certificates import Pair
from support.ends import LOOP, PLAIN, Whose
from support.link import Scene, scene


@pytest.fixture
def stage(direct: bool) -> Iterator[Scene]:
    """One server whose limits nothing in the test reaches by accident."""
    with scene(direct=direct) as made:
        yield made


def _whose(name: str, request: pytest.FixtureRequest) -> Whose:
    if name == "loop":
        return LOOP
    if name == "plain":
        return PLAIN
    pair: Pair = request.getfixturevalue("pair")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certfile, pair.keyfile)
    return Whose(context=context)


@pytest.fixture(params=["plain", "tls", "loop"])
def whose(request: pytest.FixtureRequest) -> Whose:
    """For `ends`: crest's own transports, and the loop's to compare them with."""
    return _whose(request.param, request)


@pytest.fixture(params=["plain", "tls"])
def ours(request: pytest.FixtureRequest) -> Whose:
    """Likewise, crest's only."""
    return _whose(request.param, request)
