"""Makes the modules beside this importable by the tests, and gives them a scene in each of the two ways to write."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from link import Scene, scene


@pytest.fixture
def stage(direct: bool) -> Iterator[Scene]:
    """One server whose limits nothing in the test reaches by accident."""
    with scene(direct=direct) as made:
        yield made


@pytest.fixture(params=[True, False], ids=["own", "loop"])
def own(request: pytest.FixtureRequest) -> bool:
    """For `ends`: StreamTransports, and the loop's transports to compare them with."""
    return bool(request.param)
