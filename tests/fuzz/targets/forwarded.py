"""X-Forwarded-For and Forwarded: what proxies wrote, against a reader of RFC 7239 that goes by single characters.

Input: which header, then its value.
"""

from ipaddress import ip_address

from fuzz.inputs import Input

from crest.admission.proxies import Client, TrustedProxies, parse_forwarded, parse_node
from crest.exceptions import HandshakeError
from crest.wire.head import parse_head

TOKEN = set("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
PEER = "10.0.0.1", 1
PROXIES = {
    header: TrustedProxies(["10.0.0.0/8", "fd00::/8"], header)  # type: ignore[arg-type]
    for header in ("X-Forwarded-For", "Forwarded")
}


class Malformed(Exception):
    pass


class Reader:
    """Reads Forwarded (RFC 7239 section 4) character by character; an empty pair or element is none of the grammar."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def take(self) -> str:
        if not self.peek():
            raise Malformed
        self.at += 1
        return self.text[self.at - 1]

    def skip_spaces(self) -> None:
        while self.peek() in (" ", "\t"):
            self.at += 1

    def token(self) -> str:
        found = ""
        while self.peek() in TOKEN:
            found += self.take()
        if not found:
            raise Malformed
        return found

    def quoted(self) -> str:
        found = ""
        while (each := self.take()) != '"':
            found += self.take() if each == "\\" else each
        return found

    def nodes(self) -> list[str]:
        found = [""]
        while self.at < len(self.text):
            self.skip_spaces()
            name = self.token()
            if self.take() != "=":
                raise Malformed
            if self.peek() == '"':
                self.at += 1
                value = self.quoted()
            else:
                value = self.token()
            self.skip_spaces()
            if name.lower() == "for":
                found[-1] = value
            if self.at < len(self.text):
                separator = self.take()
                if separator not in ",;":
                    raise Malformed
                if separator == ",":
                    found.append("")
        return found


def check_forwarded(value: str) -> list[str] | None:
    try:
        expected = Reader(value).nodes()
    except Malformed:
        expected = None
    try:
        found = parse_forwarded(value)
    except HandshakeError as error:
        assert error.status == 400
        found = None
    assert found == expected, f"found {found}\nexpected {expected}"
    return found


def check_client(client: Client | None) -> None:
    if client is not None:
        assert str(ip_address(client[0])) == client[0] and client[1] >= 0


def check(data: bytes) -> Client | list[str] | None:
    """The client; or what was written, if that is no header's value."""
    given = Input(data)
    name = given.choose(list(PROXIES))
    value = given.rest().decode("latin-1")
    nodes = check_forwarded(value)
    for node in nodes or [value]:
        check_client(parse_node(node))
    try:
        head = parse_head(f"GET / HTTP/1.1\r\n{name}: {value}\r\n\r\n".encode("latin-1"))
        client = PROXIES[name].client(PEER, head)
    except (HandshakeError, ValueError):
        return nodes
    check_client(client)
    assert client is not None
    return client
