"""Gives the tests a directory of files to serve."""

import os
from pathlib import Path

import pytest
from support.static import MODIFIED


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory "site" beside a secret."""
    site = tmp_path / "site"
    (site / "sub").mkdir(parents=True)
    (site / "bare").mkdir()
    (site / ".git").mkdir()
    for name, data in {
        "site/index.html": b"<h1>home</h1>",
        "site/sub/index.html": b"<h1>sub</h1>",
        "site/a b.txt": b"0123456789",
        "site/caf\xe9.txt": b"cafe",
        "site/.env": b"secret",
        "site/.git/config": b"secret",
        "site/bare/x.css": b"",
        "secret.txt": b"secret",
        "site-secret.txt": b"secret",
    }.items():
        path = tmp_path / name
        path.write_bytes(data)
        os.utime(path, (MODIFIED, MODIFIED))
    return site
