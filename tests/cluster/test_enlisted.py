"""crest.cluster.enlisted: what a worker was told as it was started."""

import asyncio
import json
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from crest import App
from crest.cluster.enlisted import VARIABLE, _known, enlisted

Tell = Callable[..., None]


@pytest.fixture
def tell(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tell]:
    """Sets the variable; what it says of descriptors is true."""
    _known.clear()
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as control, socket.socket() as shared:
        order: dict[str, Any] = {
            "supervisor": os.getppid(),
            "number": 2,
            "serial": 7,
            "run": 1,
            "control": control.fileno(),
            "shared": shared.fileno(),
            "slot": 3,
            "slots": 9,
            "endpoints": [{"sockets": [listening.fileno()], "tls": False}],
        }
        for each in (listening, control, shared):
            each.set_inheritable(True)

        def set_variable(**changed: Any) -> None:
            monkeypatch.setenv(VARIABLE, json.dumps({**order, **changed}))

        yield set_variable
    _known.clear()


def test_a_worker_knows_its_part(tell: Tell) -> None:
    tell()
    part = enlisted()
    assert part is not None
    assert (part.number, part.serial, part.run, part.slot, part.slots) == (2, 7, 1, 3, 9)
    assert App().worker == 2
    descriptors = [part.control, part.shared, *(each for sockets, _ in part.endpoints for each in sockets)]
    assert not any(map(os.get_inheritable, descriptors)), "what the program starts does not get them"


def test_its_sockets_are_those_that_it_was_passed(tell: Tell) -> None:
    tell()
    part = enlisted()
    assert part is not None
    passed = part.open()
    (endpoint,) = passed.endpoints
    assert asyncio.run(passed.open(False)) == [endpoint]
    assert endpoint.passed and endpoint.announced and not endpoint.tls
    assert endpoint.url == f"http://127.0.0.1:{endpoint.port}"
    for each in endpoint.sockets:
        each.detach()  # the fixture closes them


def test_a_process_of_another_parent_is_none(tell: Tell) -> None:
    tell(supervisor=os.getppid() + 1)
    assert enlisted() is None
    assert App().worker == 1


@pytest.mark.parametrize("told", [None, "", "{}", "nonsense"])
def test_without_a_part_it_is_none(monkeypatch: pytest.MonkeyPatch, told: str | None) -> None:
    _known.clear()
    if told is None:
        monkeypatch.delenv(VARIABLE, raising=False)
    else:
        monkeypatch.setenv(VARIABLE, told)
    assert enlisted() is None
    _known.clear()
