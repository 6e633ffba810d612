"""Certificates for tests, made by the `openssl` command: no test dependency, and no private key among the sources."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest


class Pair:
    """A certificate for 127.0.0.1, ::1 and localhost that signs itself, and its key.

    Args:
        folder: Where the files are made; made again for the same folder, they are others.
    """

    def __init__(self, folder: Path) -> None:
        self.certfile = folder / "certificate.pem"
        self.keyfile = folder / "key.pem"
        self.make()

    def make(self, kind: str = "ec") -> None:
        """Make both anew; `kind` of the key: "ec" or "rsa"."""
        key = (
            ["-newkey", "rsa:2048"] if kind == "rsa" else ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        )
        names = "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1"
        openssl("req", "-x509", *key, "-nodes", "-keyout", self.keyfile, "-out", self.certfile, "-days", "2",
                "-subj", "/CN=localhost", "-addext", names)  # fmt: skip

    def client(self) -> ssl.SSLContext:
        """For a client that trusts this certificate, as it is now, and no other."""
        return ssl.create_default_context(cafile=str(self.certfile))


def openssl(*arguments: str | Path) -> None:
    """Run the command."""
    found = shutil.which("openssl")
    if found is None:
        pytest.skip("the openssl command is not installed")
    subprocess.run([found, *map(str, arguments)], check=True, capture_output=True)
