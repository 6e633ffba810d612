"""crest.exceptions: what crest raises on purpose."""

import pytest

from crest import ConfigurationError, CrestError, HandshakeError, ListenError


@pytest.mark.parametrize("error", [ConfigurationError, HandshakeError, ListenError])
def test_one_base_catches_them_all(error: type[Exception]) -> None:
    assert issubclass(error, CrestError)


def test_listening_fails_with_an_os_error() -> None:
    assert issubclass(ListenError, OSError)


def test_a_handshake_error_reads_as_its_reason() -> None:
    error = HandshakeError(400, "Host is missing", (("X-Why", "so"),))
    assert str(error) == "Host is missing"
    assert (error.status, error.reason, error.headers) == (400, "Host is missing", (("X-Why", "so"),))


def test_a_handshake_error_has_no_headers_of_its_own() -> None:
    assert HandshakeError(404, "not found").headers == ()
