"""The opening handshake on the server's side (RFC 6455 section 4.2): RequestHead -> Offer -> response bytes. Sans-I/O.

Owns every check that the RFC asks of an upgrade request, and what may be answered to one; extensions.py chooses an
extension. It knows no path, no Origin policy and no handler: the holder of the connection reads the head, decides when
`check` has made an `Offer` of it, and sends what the offer's `accept` returns.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint8_t, uint32_t

from crest.wire.head cimport RequestHead, Span, shown, text_of

import re
from binascii import b2a_base64
from hashlib import sha1

from crest.exceptions import HandshakeError
from crest.wire.extensions import negotiate
from crest.wire.fields import extra_fields

cdef size_t MOST_PORT = 65535
cdef size_t KEY_SIZE = 24           # of the base64 of 16 bytes
cdef bytes GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"   # what the key is hashed with (section 1.3)

cdef bytes RESPONSE = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
)

cdef bytes END = b"\r\n\r\n"

cdef str WHITESPACE = " \t"         # OWS of RFC 9110 section 5.6.3

cdef object quoted_pair = re.compile(r"\\(.)")  # RFC 9110 section 5.6.4

# The parts of a header that a character may belong to.
cdef enum:
    TOKEN = 1                       # token, RFC 9110 section 5.6.2
    HOST = 2                        # uri-host [":" port], RFC 9110 section 7.2
    BASE64 = 4                      # RFC 4648 section 4, without the padding
    BASE64_LAST = 8                 # ... where only the upper 2 of the 6 bits may be set

cdef uint8_t part_of[128]


cdef int allow(bytes characters, uint8_t what) except -1:
    cdef uint8_t each
    for each in characters:
        part_of[each] |= what
    return 0


cdef bytes ALPHANUMERIC = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
allow(ALPHANUMERIC + b"!#$%&'*+-.^_`|~", TOKEN)
allow(ALPHANUMERIC + b"-._~%!$&'()*+,;=:[]", HOST)
allow(ALPHANUMERIC + b"+/", BASE64)
allow(b"AQgw", BASE64_LAST)


cdef bint are(const uint8_t* data, size_t size, uint8_t what) noexcept:
    """True if there are bytes, and all of them may be part of `what`."""
    cdef size_t i
    for i in range(size):
        if data[i] >= 128 or not part_of[data[i]] & what:
            return False
    return size > 0


def is_token(str value not None):
    """True if it is a token, as names of subprotocols and extensions are."""
    cdef Py_UCS4 each
    for each in value:
        if each >= 128 or not part_of[each] & TOKEN:
            return False
    return bool(value)


# ---- Requests --------------------------------------------------------------------------------------------------------

def wants_upgrade(RequestHead head not None):
    """True if the request asks for the WebSocket protocol (section 4.2.1, item 3)."""
    return head.lists(b"Upgrade", b"websocket")


cpdef check_host(RequestHead head):
    """Check the Host header (RFC 9112 section 3.2). Requests of HTTP/1.0 may come without it, others may not.

    Raises:
        HandshakeError: 400, it is missing, repeated, empty or malformed.
    """
    cdef uint32_t line = 0
    cdef Span host
    if not head.is_1_1 and not head.find(b"Host", &line, &host):
        return
    head.only(b"Host", &host)
    if not is_authority(host):
        raise HandshakeError(400, f"Host is not a host name with an optional port: {shown(text_of(host))}")


def is_host(str value not None):
    """True if it is a host name or an address, with an optional port, as Host has it."""
    cdef bytes data = value.encode("ascii", "replace")  # no host has a question mark
    return is_authority(Span(<const uint8_t*>PyBytes_AS_STRING(data), len(data)))


cdef bint is_authority(Span host) noexcept:
    return are(host.data, host.size, HOST) and port_of(host) <= MOST_PORT


cdef size_t port_of(Span host) noexcept:
    """Read the number behind the last colon, at most MOST_PORT + 1; 0: there is none."""
    cdef size_t port = 0, begin = host.size, i
    while begin and c"0" <= host.data[begin - 1] <= c"9":
        begin -= 1
    if not begin or host.data[begin - 1] != c":":
        return 0
    for i in range(begin, host.size):
        port = min(10 * port + (host.data[i] - c"0"), MOST_PORT + 1)
    return port


def check(RequestHead head not None):
    """Check an upgrade request (section 4.2.1). What it offers must be well-formed, whether or not it is accepted.

    Returns:
        An `Offer`.

    Raises:
        HandshakeError: 400 for a bad handshake; 426 if it is none, or asks for another version than 13.
    """
    cdef Offer offer = Offer.__new__(Offer)
    cdef Span key
    check_upgrade(head, &key)
    offer.key = key.data[:key.size]
    extensions = head.joined(b"Sec-WebSocket-Extensions")
    if extensions is None:
        offer.extensions = ()
    else:
        offer.extensions = tuple([(name, tuple(params)) for name, params in parse_extensions(extensions)])
    subprotocols = head.joined(b"Sec-WebSocket-Protocol")
    offer.subprotocols = () if subprotocols is None else tuple(parse_subprotocols(subprotocols))
    return offer


cdef int check_upgrade(RequestHead head, Span* key) except -1:
    """Check what every opening handshake needs (section 4.2.1), and find its key."""
    cdef Span version
    if head.method != "GET":
        raise HandshakeError(400, f"the method of an opening handshake is GET, not {shown(head.method)}")
    if not head.is_1_1:
        raise HandshakeError(400, f"an opening handshake takes HTTP/1.1, not HTTP/{head.version}")
    check_host(head)
    if not head.lists(b"Upgrade", b"websocket"):
        raise HandshakeError(426, "this is a WebSocket endpoint: the request needs the header 'Upgrade: websocket'")
    if not head.lists(b"Connection", b"upgrade"):
        values = head.joined(b"Connection") or ""
        raise HandshakeError(400, f"Connection does not contain 'Upgrade': {shown(values)}")
    if head.announces_body():
        raise HandshakeError(400, "an opening handshake has no body, but Content-Length or Transfer-Encoding says so")
    head.only(b"Sec-WebSocket-Version", &version)
    if version.size != 2 or version.data[0] != c"1" or version.data[1] != c"3":  # section 4.2.2, item 4
        text = f"Sec-WebSocket-Version is not 13, the only version spoken here: {shown(text_of(version))}"
        raise HandshakeError(426, text, (("Sec-WebSocket-Version", "13"),))
    head.only(b"Sec-WebSocket-Key", key)
    if not is_key(key[0]):
        raise HandshakeError(400, f"Sec-WebSocket-Key is not the base64 of 16 bytes: {shown(text_of(key[0]))}")
    return 0


cdef bint is_key(Span key) noexcept:
    """True if it is the base64 of 16 bytes: 21 characters, one that carries 2 bits more, and the padding."""
    return (
        key.size == KEY_SIZE
        and are(key.data, 21, BASE64)
        and are(key.data + 21, 1, BASE64_LAST)
        and key.data[22] == key.data[23] == c"="
    )


# ---- Responses -------------------------------------------------------------------------------------------------------

cpdef bytes accept_key(bytes key):
    """Make the value of Sec-WebSocket-Accept that answers a key (section 4.2.2, item 5.4)."""
    return b2a_base64(sha1(key + GUID, usedforsecurity=False).digest(), newline=False)


@cython.final
@cython.no_gc  # nothing that it holds can hold it
cdef class Offer:
    """What a client offers with an upgrade request that is in order; `check` makes it.

    Attributes:
        key: The value of Sec-WebSocket-Key.
        subprotocols: Names, the client's preferred one first; empty if it offers none.
        extensions: What `parse_extensions` lists, as tuples; empty if it offers none.
    """

    cdef readonly bytes key
    cdef readonly tuple subprotocols, extensions

    def choose(self, subprotocols):
        """Choose a subprotocol: the first of the server's that the client offers too; None if there is none.

        Args:
            subprotocols: What the server speaks, most preferred first.
        """
        if self.subprotocols:
            for name in subprotocols:
                for offered in self.subprotocols:
                    if name == offered:
                        return offered
        return None

    def accept(self, str subprotocol=None, headers=(), deflate=None):
        """Make the response that opens the connection (section 4.2.2).

        Args:
            subprotocol: The one that is spoken from then on; None: none is.
            headers: Further header fields, as pairs of `str` or bytes.
            deflate: A `Deflate`, how the server compresses; None: it does not.

        Returns:
            The response bytes, and the `Agreement` on permessage-deflate, or None.

        Raises:
            ValueError: The client does not offer this subprotocol. Or a header is malformed, or the handshake's own.
            TypeError: A header is no such pair.
        """
        agreed = None if deflate is None or not self.extensions else negotiate(self.extensions, deflate)
        end = "" if agreed is None else f"\r\nSec-WebSocket-Extensions: {agreed.response}"
        if subprotocol is not None:
            if subprotocol not in self.subprotocols:  # it must not be sent then (section 4.2.2, item 4)
                raise ValueError(f"the client does not offer the subprotocol {shown(subprotocol)}")
            end += f"\r\nSec-WebSocket-Protocol: {subprotocol}"
        rest = b"\r\n" + extra_fields(headers) + b"\r\n" if headers else END
        if end:
            rest = end.encode("ascii") + rest
        return RESPONSE + accept_key(self.key) + rest, agreed


# ---- What a client offers --------------------------------------------------------------------------------------------

def parse_subprotocols(str value not None):
    """List the names in a Sec-WebSocket-Protocol header, which is 1#token (section 11.3.4), in the client's order.

    Args:
        value: The header's value; of several headers, the values joined with commas.

    Raises:
        HandshakeError: 400, an element is not a token, or there is none.
    """
    stripped = [element.strip(WHITESPACE) for element in value.split(",")]
    names = [name for name in stripped if name]  # a list may have empty elements (RFC 9110 section 5.6.1.2)
    if not names:
        raise HandshakeError(400, f"Sec-WebSocket-Protocol names no subprotocol: {shown(value)}")
    for name in names:
        if not is_token(name):
            raise HandshakeError(400, f"Sec-WebSocket-Protocol has an element that is not a token: {shown(name)}")
    return names


def parse_extensions(str value not None):
    """List the offers in a Sec-WebSocket-Extensions header, in the client's order (section 9.1).

    Args:
        value: The header's value; of several headers, the values joined with commas.

    Returns:
        A list of (name, parameters), the parameters a list of (name, value); a value is None where none was given.

    Raises:
        HandshakeError: 400, the value does not follow the grammar.
    """
    offers = []
    # Splitting cannot cut a valid quoted string apart: its content must be a token.
    for element in value.split(","):
        name, *params = element.split(";")
        if params or name.strip(WHITESPACE):  # a list may have empty elements
            offers.append((extension_token(name), [parse_param(param) for param in params]))
    if not offers:
        raise HandshakeError(400, f"Sec-WebSocket-Extensions names no extension: {shown(value)}")
    return offers


cdef tuple parse_param(str text):
    """Parse extension-param = token [ "=" (token / quoted-string) ] (section 9.1)."""
    name, equals, argument = text.partition("=")
    if not equals:
        return extension_token(name), None
    argument = argument.strip(WHITESPACE)
    if len(argument) >= 2 and argument.startswith('"') and argument.endswith('"'):
        argument = quoted_pair.sub(r"\1", argument[1:len(argument) - 1])
    return extension_token(name), checked_token(argument)


cdef str extension_token(str text):
    return checked_token(text.strip(WHITESPACE))


cdef str checked_token(str text):
    """Return the token; whitespace within quotes is part of what must be one (section 9.1)."""
    if not is_token(text):
        raise HandshakeError(400, f"Sec-WebSocket-Extensions has {shown(text)} where a token must be")
    return text
