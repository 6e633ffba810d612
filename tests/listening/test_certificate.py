"""crest.listening.certificate: what can be used, and one clear line for what can not."""

import ssl
from pathlib import Path
from typing import Any

import pytest
from support.certificates import Pair, openssl
from support.events import on_each_loop

from crest import App, ConfigurationError, ListenError
from crest.listening.certificate import Certificate, certificate_of


def refusal(certfile: Path, keyfile: Path | None = None) -> str:
    """Why these can not be used."""
    with pytest.raises(ListenError) as raised:
        Certificate(certfile, keyfile)
    return str(raised.value)


def test_a_certificate_and_its_key(pair: Pair) -> None:
    certificate = Certificate(str(pair.certfile), pair.keyfile)
    assert certificate.reloadable
    assert certificate.context.protocol == ssl.PROTOCOL_TLS_SERVER
    assert certificate.context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_both_in_one_file(pair: Pair, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(pair.keyfile.read_bytes() + pair.certfile.read_bytes())
    Certificate(both)


def test_files_that_are_not_there(pair: Pair, tmp_path: Path) -> None:
    absent = tmp_path / "absent.pem"
    text = f"cannot serve TLS: {absent}: No such file or directory"
    assert refusal(absent, pair.keyfile) == refusal(pair.certfile, absent) == text
    assert refusal(tmp_path) == f"cannot serve TLS: {tmp_path}: Is a directory"


def test_files_that_are_something_else(pair: Pair, tmp_path: Path) -> None:
    der = tmp_path / "der"
    der.write_bytes(b"\x30\x82\x00\xff")
    assert refusal(der, pair.keyfile) == f"cannot serve TLS: {der}: there is no certificate in it, as PEM"
    assert refusal(pair.certfile) == f"cannot serve TLS: {pair.certfile}: there is no private key in it, as PEM"
    broken = tmp_path / "broken"
    broken.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    assert refusal(broken, pair.keyfile).startswith(f"cannot serve TLS: {broken} and {pair.keyfile} can not be used: ")


def test_the_key_of_another_certificate(pair: Pair, tmp_path: Path) -> None:
    key = Pair(tmp_path).keyfile
    assert refusal(pair.certfile, key) == (
        f"cannot serve TLS: the key in {key} does not match the certificate in {pair.certfile}"
    )


def test_an_encrypted_key_is_not_asked_for(pair: Pair, tmp_path: Path) -> None:
    key = tmp_path / "encrypted.pem"
    openssl("ec", "-in", pair.keyfile, "-out", key, "-aes256", "-passout", "pass:secret")
    assert refusal(pair.certfile, key) == (
        f"cannot serve TLS: the key in {key} is encrypted: decrypt the file, or pass an SSLContext"
    )


def test_what_can_not_be_reloaded_leaves_everything_as_it_was(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    certificate = Certificate(pair.certfile, pair.keyfile)
    first = certificate.context
    pair.keyfile.write_text("")
    with pytest.raises(ListenError):
        certificate.reload()
    assert certificate.context is first
    pair.make("rsa")
    certificate.reload()
    assert certificate.context is not first


# ---- The arguments ---------------------------------------------------------------------------------------------------


def test_no_arguments_are_no_tls() -> None:
    assert certificate_of(None, None, None) is None


def test_a_context_is_the_programs_own() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate = certificate_of(None, None, context)
    assert certificate is not None
    assert certificate.context is context
    assert not certificate.reloadable
    assert context.options & ssl.OP_NO_RENEGOTIATION


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((None, "key.pem", None), ValueError, "keyfile without certfile"),
        (("x.pem", None, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)), ValueError, "either certfile and keyfile, or ssl"),
        ((None, None, True), TypeError, "ssl must be an SSLContext, not bool"),
        ((None, None, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)), ValueError, "ssl is a context for clients"),
    ],
)
def test_arguments_that_mean_nothing(arguments: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        certificate_of(*arguments)


@on_each_loop
async def test_a_certificate_that_nobody_would_see_is_refused(pair: Pair) -> None:
    with pytest.raises(ConfigurationError, match="no address that speaks TLS"):
        async with App().listening(listen="http://127.0.0.1:0", certfile=pair.certfile, keyfile=pair.keyfile):
            pass
