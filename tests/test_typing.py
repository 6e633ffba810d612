"""What type checkers see of the installed package: its stubs and py.typed."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest


@pytest.mark.skipif(find_spec("mypy") is None, reason="mypy is not installed; `make types` installs it")
def test_public_api_has_its_types(tmp_path: Path) -> None:
    checked = Path(__file__).parent / "typing" / "check_public_api.py"
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={tmp_path}", str(checked)]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
