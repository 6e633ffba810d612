"""The head of an HTTP/1.1 request (RFC 9112 sections 2, 3 and 5): bytes -> RequestHead. Sans-I/O.

Owns the limits on a head, the forms of a request target, and the way to a header field. response.pyx reads heads of
responses, whose fields are found in the same way. What the fields of an opening handshake must be is handshake.pyx's.

httptools (llhttp, strict) is the judge of the bytes. Behind the request line it accepts no bare CR or LF, no obsolete
line folding, no space before a colon, and no names but tokens. So the head is then simply the lines between CRLFs.
Fields are looked for where they stand: an opening handshake needs no object for any of them.
"""

cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.unicode cimport PyUnicode_DecodeLatin1
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memchr, memcmp

import re
from urllib.parse import unquote

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from multidict import CIMultiDict, CIMultiDictProxy

from crest.exceptions import HandshakeError

# First byte of a TLS ClientHello (the content type of RFC 8446 section 5.1); no HTTP method starts with it.
cdef uint8_t TLS_HANDSHAKE = 0x16

cdef size_t VERSION_SIZE = 9        # of " HTTP/1.1"
cdef size_t LEAST_LINE = 4          # of "a:\r\n"

# Characters of a peer's value that an error text repeats.
cdef Py_ssize_t MAX_SHOWN = 60

cdef object authority_end = re.compile(r"[/?#]")


cdef class Head:
    """The header fields of one request or response.

    Attributes:
        raw: Exactly the bytes of the head, with the empty line that ends it.
    """

    def __dealloc__(self):
        PyMem_Free(self.lines)

    @property
    def version(self):
        """The version of HTTP: "1.1" or "1.0"."""
        return "1.1" if self.is_1_1 else "1.0"

    @property
    def headers(self):
        """All header fields; the values are decoded as Latin-1, without the whitespace around them."""
        if self.fields is None:
            lines = self.raw[self.lines[0]:self.lines[self.count]].decode("latin-1").split("\r\n")
            lines.pop()  # behind the last line's end
            pairs = [line.split(":", 1) for line in lines]
            self.fields = CIMultiDictProxy(CIMultiDict([(name, value.strip(" \t")) for name, value in pairs]))
        return self.fields

    # ---- Single fields; names and tokens are given in ASCII letters and hyphens, and match in any case ----------

    @cython.final
    cdef bint find(self, bytes name, uint32_t* line, Span* value) noexcept:
        """Find the next field of that name, from header line `line` on; `line` is then the one behind it."""
        cdef const uint8_t* data = <const uint8_t*>PyBytes_AS_STRING(self.raw)
        cdef const uint8_t* begin
        cdef size_t name_size = len(name), size
        while line[0] < self.count:
            begin = data + self.lines[line[0]]
            size = self.lines[line[0] + 1] - self.lines[line[0]] - 2
            line[0] += 1
            if size > name_size and begin[name_size] == c":" and same_letters(begin, name):
                value[0] = stripped(begin + name_size + 1, size - name_size - 1)
                return True
        return False

    cpdef str joined(self, bytes name):
        """Join the values of all fields of that name as one list (RFC 9110 section 5.3); None: there is none."""
        cdef uint32_t line = 0
        cdef Span value
        if not self.find(name, &line, &value):
            return None
        text = text_of(value)
        while self.find(name, &line, &value):
            text = f"{text},{text_of(value)}"
        return text

    cpdef bint lists(self, bytes name, bytes token) except -1:
        """True if a list field, which may come in several lines, has this token."""
        cdef uint32_t line = 0
        cdef Span value, element
        cdef const uint8_t* at
        cdef const uint8_t* comma
        while self.find(name, &line, &value):
            at = value.data
            while True:
                comma = <const uint8_t*>memchr(at, c",", value.data + value.size - at)
                if comma == NULL:
                    comma = value.data + value.size
                element = stripped(at, comma - at)
                if element.size == <size_t>len(token) and same_letters(element.data, token):
                    return True
                if comma == value.data + value.size:
                    break
                at = comma + 1
        return False


@cython.final
cdef class RequestHead(Head):
    """The request line and the header fields of one request; `HeadReader` and `parse_head` make it."""

    @property
    def method(self):
        """The method as it was sent: methods are case-sensitive."""
        return text_of(self.method_span)

    @property
    def target(self):
        """The request target, percent-encoded, ASCII."""
        return text_of(self.target_span)

    cdef int only(self, bytes name, Span* value) except -1:
        """Find the value of a field that must be there exactly once."""
        cdef uint32_t line = 0
        cdef Span another
        if not self.find(name, &line, value):
            raise HandshakeError(400, f"{name.decode()} is missing")
        if self.find(name, &line, &another):
            raise HandshakeError(400, f"{name.decode()} is repeated")
        return 0

    cpdef bint announces_body(self) except -1:
        """True if bytes behind the head belong to the request (RFC 9112 section 6.3)."""
        cdef uint32_t line = 0
        cdef Span value
        cdef size_t i
        if self.find(b"Transfer-Encoding", &line, &value):
            return True
        line = 0
        if self.find(b"Content-Length", &line, &value):
            for i in range(value.size):
                if value.data[i] != c"0":
                    return True
        return False


@cython.final
cdef class HeadReader:
    """Reads the head of one request from bytes that may be split anywhere.

    A malformed head is refused with the first chunk that shows it. Bytes behind the head are never looked at.

    Args:
        max_size: Bytes that the head may have, its last empty line included.
        max_headers: Header fields that it may have.

    Attributes:
        rest: Once the head is complete, the bytes that came behind it.
        is_head: True if the request, complete or not or refused, is one of HEAD: no response to it has content.
    """

    cdef readonly bytes rest
    cdef readonly bint is_head
    cdef size_t max_size, max_headers
    cdef size_t skipped             # bytes of empty lines before the request line
    cdef bytearray begun            # a head that is not complete
    cdef object parser

    @property
    def held(self):
        """Bytes of memory that an incomplete head takes."""
        return 0 if self.begun is None else self.begun.__alloc__()

    def __init__(self, size_t max_size=16384, size_t max_headers=100):
        self.rest = b""
        self.max_size = max_size
        self.max_headers = max_headers

    def feed(self, bytes data not None):
        """Take the next bytes of the connection. Not to be called again once the head is complete, or this has raised.

        Returns:
            The head, or None while more bytes are needed.

        Raises:
            HandshakeError: 400 malformed, 431 too large or too many header fields, 505 not HTTP/1.
        """
        cdef size_t known = 0, end
        if self.begun is not None:
            known = len(self.begun)
            self.begun += data
            self.is_head = begins_with_head(<uint8_t*>PyByteArray_AS_STRING(self.begun), len(self.begun))
            end = end_of_head(<uint8_t*>PyByteArray_AS_STRING(self.begun), known, len(self.begun), self.max_size)
        else:
            if not data or data[0] <= TLS_HANDSHAKE:
                data = self.skip_empty_lines(data)
                if not data:
                    return None
            self.is_head = begins_with_head(<uint8_t*>PyBytes_AS_STRING(data), len(data))
            end = end_of_head(<uint8_t*>PyBytes_AS_STRING(data), 0, len(data), self.max_size)
        if end:
            return self.complete(data, known, end)
        self.judge(data[:self.max_size - known])
        if known + len(data) >= self.max_size:
            raise HandshakeError(431, f"the request head is longer than {self.max_size} bytes")
        if self.begun is None:
            self.begun = bytearray(data)
        return None

    cdef RequestHead complete(self, bytes data, size_t known, size_t end):
        cdef size_t part = end - known
        if part < <size_t>len(data):
            self.rest = data[part:]
            data = data[:part]
        self.judge(data)
        return split(data if self.begun is None else bytes(self.begun[:end]), self.max_headers)

    cdef bytes skip_empty_lines(self, bytes data):
        """Remove the empty lines that may precede a request line (RFC 9112 section 2.2)."""
        cdef bytes found = data.lstrip(b"\r\n")
        if len(found) != len(data):
            self.skipped += len(data) - len(found)
            if self.skipped > self.max_size:
                raise HandshakeError(431, f"more than {self.max_size} bytes of empty lines before the request line")
        if found and found[0] == TLS_HANDSHAKE:
            raise HandshakeError(400, "this looks like a TLS handshake, but this port speaks plain HTTP, not HTTPS")
        return found

    cdef int judge(self, bytes chunk) except -1:
        if self.parser is None:
            self.parser = HttpRequestParser(None)  # without callbacks it only judges
        try:
            self.parser.feed_data(chunk)
        except HttpParserUpgrade:
            pass  # how httptools says that the head is complete and asks for an upgrade
        except HttpParserError as error:
            raise HandshakeError(400, f"malformed HTTP request: {error}") from None
        return 0


def parse_head(bytes raw not None):
    """Parse the head again from `RequestHead.raw`: the bytes alone take less memory than the parsed head.

    Raises:
        HandshakeError: `raw` is malformed.
        ValueError: `raw` is not one complete head.
    """
    reader = HeadReader(max_size=len(raw) + 1, max_headers=len(raw))
    head = reader.feed(raw)
    if head is None or reader.rest:
        raise ValueError("not one complete request head")
    return head


cdef bint begins_with_head(const uint8_t* data, size_t size) noexcept:
    return size >= 5 and memcmp(data, b"HEAD ", 5) == 0


cdef size_t end_of_head(const uint8_t* data, size_t known, size_t size, size_t limit) noexcept:
    """Count the bytes up to and with the first empty line; 0: it is not there within `limit`. `known` bytes were looked
    at before."""
    cdef const uint8_t* at = data + (known - 3 if known > 3 else 0)
    cdef const uint8_t* stop = data + min(size, limit)
    while at + 4 <= stop:
        at = <const uint8_t*>memchr(at, c"\r", stop - at - 3)
        if at == NULL:
            return 0
        if memcmp(at, b"\r\n\r\n", 4) == 0:
            return at + 4 - data
        at += 1
    return 0


cdef RequestHead split(bytes raw, size_t max_headers):
    """Take a head apart that the parser accepted."""
    cdef RequestHead head = RequestHead.__new__(RequestHead)
    cdef size_t end = line_end(<const uint8_t*>PyBytes_AS_STRING(raw), 0, len(raw)), count
    head.raw = raw
    split_request_line(head, <const uint8_t*>PyBytes_AS_STRING(raw), end)
    count = index_fields(head, end + 2, max_headers)
    if count > max_headers:
        raise HandshakeError(431, f"the request has {count} header fields; the limit is {max_headers}")
    return head


cdef size_t index_fields(Head head, size_t at, size_t max_headers) except? 0:
    """Find the header lines from `at` on, behind the first line of the head. Returns how many there are. If they are
    more than `max_headers`, the head is not to be used."""
    cdef const uint8_t* data = <const uint8_t*>PyBytes_AS_STRING(head.raw)
    cdef size_t size = len(head.raw), count = 0, room = min(max_headers, size // LEAST_LINE)
    head.lines = <uint32_t*>PyMem_Malloc((room + 1) * sizeof(uint32_t))
    if head.lines == NULL:
        raise MemoryError
    while at < size - 2:
        if count < room:
            head.lines[count] = at
        count += 1
        at = line_end(data, at, size) + 2
    if count <= room:
        head.lines[count] = at
        head.count = count
    return count


cdef int split_request_line(RequestHead head, const uint8_t* line, size_t size) except -1:
    cdef size_t stop = size - VERSION_SIZE, space = 0, begin
    # llhttp takes a request line without a version for HTTP/0.9, and lets that end with a bare LF.
    if size < VERSION_SIZE or memcmp(line + stop, b" HTTP/1.", VERSION_SIZE - 1) or line[size - 1] not in (c"0", c"1") \
            or memchr(line, c"\n", size) != NULL:
        text = shown(PyUnicode_DecodeLatin1(<const char*>line, size, NULL))
        raise HandshakeError(505, f"this port speaks HTTP/1.1, not what the request line says: {text}")
    head.is_1_1 = line[size - 1] == c"1"
    while space < stop and line[space] != c" ":
        space += 1
    begin = space
    while begin < stop and line[begin] == c" ":
        begin += 1
    while stop > begin and line[stop - 1] == c" ":
        stop -= 1
    head.method_span = Span(line, space)
    head.target_span = Span(line + begin, stop - begin)
    return 0


cdef size_t line_end(const uint8_t* data, size_t at, size_t size) noexcept:
    """Find the end of the line that begins at `at`."""
    cdef const uint8_t* found = <const uint8_t*>memchr(data + at, c"\r", size - at)
    return size if found == NULL else found - data


cdef Span stripped(const uint8_t* data, size_t size) noexcept:
    """Remove the whitespace around a value (OWS of RFC 9110 section 5.6.3)."""
    while size and (data[0] == c" " or data[0] == c"\t"):
        data += 1
        size -= 1
    while size and (data[size - 1] == c" " or data[size - 1] == c"\t"):
        size -= 1
    return Span(data, size)


cdef bint same_letters(const uint8_t* data, bytes wanted) noexcept:
    """True if these bytes are `wanted` in any case. It has ASCII letters, which nothing else becomes with bit 0x20 set;
    and hyphens, which only CR becomes, and that is in no name and no value."""
    cdef const uint8_t* other = <const uint8_t*>PyBytes_AS_STRING(wanted)
    cdef Py_ssize_t i
    for i in range(len(wanted)):
        if (data[i] | 0x20) != (other[i] | 0x20):
            return False
    return True


cdef str text_of(Span span):
    return PyUnicode_DecodeLatin1(<const char*>span.data, span.size, NULL)


# ---- Request targets -------------------------------------------------------------------------------------------------

def split_target(str target not None):
    """Split a request target into the path, still percent-encoded, and the query.

    Args:
        target: In origin-form ("/ws?a=1") or absolute-form ("http://host/ws"), RFC 9112 section 3.2.

    Returns:
        The path begins with "/", or is "" for the other forms ("*", "host:port"), which have none; the query comes
        without "?", "" if there is none.
    """
    if not target.startswith("/"):
        scheme, found, rest = target.partition("://")
        if not found or not scheme:
            return "", ""
        end = authority_end.search(rest)
        target = rest[end.start():] if end else ""
        if not target.startswith("/"):
            target = "/" + target  # an empty path means "/" (RFC 9110 section 4.2.3)
    path, _, query = target.partition("#")[0].partition("?")
    return path, query


def authority_of(str target not None):
    """Find the host and port that a request target in absolute-form names; another form names none."""
    if target.startswith("/"):
        return None
    scheme, found, rest = target.partition("://")
    return authority_end.split(rest, 1)[0] if found and scheme else None


cpdef str path_of(str target):
    """Find the path to route a request target by: percent-decoded as UTF-8 with errors replaced, without the query."""
    cdef Py_UCS4 each
    if target.startswith("/"):
        for each in target:
            if each == "%" or each == "?" or each == "#":
                break
        else:
            return target
    path = split_target(target)[0]
    return unquote(path, errors="replace") if "%" in path else path


def route_of(str target not None):
    """Find the path to route a request by, see `path_of`.

    Raises:
        HandshakeError: 400, the target has no path, or a fragment (RFC 6455 section 3, RFC 9112 section 3.2).
    """
    path = path_of(target)
    if not path:
        raise HandshakeError(400, "the request target has no path")
    if path is not target and "#" in target:
        raise HandshakeError(400, f"the request target has a fragment, which no request may have: {shown(target)}")
    return path


# ---- Error texts -----------------------------------------------------------------------------------------------------

cpdef str shown(str value):
    """Write a peer's value for an error text: quoted, shortened, and with nothing but printable ASCII."""
    return ascii(value) if len(value) <= MAX_SHOWN else ascii(value[:MAX_SHOWN]) + "..."
