"""The certificate of a TLS server, and its key: from files that can be read again, or an SSLContext."""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence

from crest.exceptions import ListenError

PROTOCOLS: Sequence[str] = ("http/1.1",)
"""Protocols offered by ALPN (RFC 7301): the opening handshake is HTTP/1.1, and browsers prefer HTTP/2 where it is."""


class Certificate:
    """The TLS side of a listener.

    Args:
        certfile: The certificate and those that lead up to its root, as PEM.
        keyfile: Its private key, as PEM, not encrypted; None: it is in `certfile`.

    Attributes:
        context: For the handshakes to come. Open connections keep the context that they began with.
        reloadable: True if `reload` can do anything.

    Raises:
        ListenError: A file can not be read, or is not what it should be.
    """

    def __init__(self, certfile: str | os.PathLike[str], keyfile: str | os.PathLike[str] | None = None) -> None:
        self.reloadable = True
        self._files = os.fspath(certfile), os.fspath(certfile if keyfile is None else keyfile)
        self.context = _context(*self._files)

    @classmethod
    def of(cls, context: ssl.SSLContext) -> Certificate:
        """Wrap a context of the program's own. Renegotiation is switched off there, too: see `_context`."""
        self = cls.__new__(cls)
        self.reloadable = False
        self.context = context
        context.options |= ssl.OP_NO_RENEGOTIATION
        return self

    def reload(self) -> None:
        """Read the files again. If they can not be used, everything stays as it was.

        The context is a new one: in the old one a certificate with another kind of key would only join the first.

        Raises:
            ListenError: A file can not be read, or is not what it should be.
        """
        self.context = _context(*self._files)


def certificate_of(
    certfile: str | os.PathLike[str] | None,
    keyfile: str | os.PathLike[str] | None,
    context: ssl.SSLContext | None,
) -> Certificate | None:
    """Make the certificate that `certfile`, `keyfile` and `ssl` of `App.listening` mean; None: no TLS.

    Raises:
        TypeError, ValueError: They mean nothing.
        ListenError: A file can not be read, or is not what it should be.
    """
    if context is not None:
        if not isinstance(context, ssl.SSLContext):
            raise TypeError(f"ssl must be an SSLContext, not {type(context).__name__}")
        if certfile is not None or keyfile is not None:
            raise ValueError("either certfile and keyfile, or ssl")
        if context.protocol == ssl.PROTOCOL_TLS_CLIENT:
            raise ValueError("ssl is a context for clients: it takes ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)")
        return Certificate.of(context)
    if certfile is None:
        if keyfile is not None:
            raise ValueError("keyfile without certfile")
        return None
    return Certificate(certfile, keyfile)


def _context(certfile: str, keyfile: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # The oldest version that CPython allows was chosen when it was built; a machine's own rules may be stricter.
    context.minimum_version = max(context.minimum_version, ssl.TLSVersion.TLSv1_2)
    context.options |= ssl.OP_NO_RENEGOTIATION  # which costs the server more than the client; OpenSSL 3 has it anyway
    context.set_alpn_protocols(PROTOCOLS)
    _check_file(certfile, b"-----BEGIN CERTIFICATE-----", "certificate")
    _check_file(keyfile, b"PRIVATE KEY-----", "private key")
    try:
        context.load_cert_chain(certfile, keyfile, password=_refuse_to_ask)
    except _EncryptedError:
        raise _cannot(f"the key in {keyfile} is encrypted: decrypt the file, or pass an SSLContext") from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise _cannot(f"the key in {keyfile} does not match the certificate in {certfile}") from error
        raise _cannot(f"{certfile} and {keyfile} can not be used: {error.reason or error}") from error
    except OSError as error:
        raise _cannot(f"{error.filename or certfile}: {error.strerror}") from error
    return context


def _check_file(path: str, mark: bytes, what: str) -> None:
    """Check a file: OpenSSL says neither which of the files it could not read nor what is missing in it."""
    try:
        with open(path, "rb") as file:
            found = mark in file.read()
    except OSError as error:
        raise _cannot(f"{path}: {error.strerror}") from error
    if not found:
        raise _cannot(f"{path}: there is no {what} in it, as PEM")


def _cannot(why: str) -> ListenError:
    return ListenError(f"cannot serve TLS: {why}")


class _EncryptedError(Exception):
    pass


def _refuse_to_ask() -> str:
    """Raise in place of OpenSSL's question on the terminal, at which a server would wait forever."""
    raise _EncryptedError
