"""crest.exceptions: what crest raises on purpose."""

from typing import Any

import pytest

from crest import ConfigurationError, CrestError, HandshakeError, ListenError, Reject


@pytest.mark.parametrize("error", [ConfigurationError, HandshakeError, ListenError, Reject])
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


@pytest.mark.parametrize("headers", [{"X-Why": "so"}, [("X-Why", "so")], iter([("X-Why", "so")])])
def test_a_reject_takes_headers_as_a_response_does(headers: Any) -> None:
    reject = Reject(403, "why", headers)
    assert (reject.status, reject.reason, reject.headers) == (403, "why", (("X-Why", "so"),))


def test_a_reject_is_401_unless_it_says_otherwise() -> None:
    assert (Reject().status, Reject().reason, Reject().headers) == (401, "refused", ())


@pytest.mark.parametrize("reason", [None, b"why", 7])
def test_a_reject_has_a_text(reason: Any) -> None:
    with pytest.raises(TypeError, match=f"the reason of a Reject is str, not {type(reason).__name__}"):
        Reject(403, reason)


@pytest.mark.parametrize("status", [0, 101, 200, 299, 600])
def test_a_reject_refuses(status: int) -> None:
    with pytest.raises(ValueError, match=f"the status of a Reject is 300 to 599, not {status}"):
        Reject(status)
