"""Makes scripted.py importable by the tests beside it, and builds the load generator for them where it can."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

LOAD = Path(__file__).parents[2] / "benches" / "load"


@pytest.fixture(scope="session")
def load(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The load generator's binary; `limit` is beside it."""
    if sys.platform != "linux":
        pytest.skip("the load generator needs epoll")
    if shutil.which("make") is None or shutil.which(os.environ.get("CC", "cc")) is None:
        pytest.skip("no make or no C compiler")
    directory = tmp_path_factory.mktemp("load")
    subprocess.run(["make", "--silent", "-C", str(LOAD), f"OUT={directory}"], check=True)
    return directory / "load"
