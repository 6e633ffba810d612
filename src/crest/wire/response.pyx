"""What a server answers to a client's opening handshake (RFC 9112 sections 4 to 6): bytes -> ResponseHead. Sans-I/O.

Owns the limits on a response, and where it ends. Whether it opens a WebSocket is upgrade.py's to judge. A response that
does not may have content, which says why: that is read, too, as far as it may be.

httptools is the judge of the bytes, of responses as of requests (head.pyx). So behind the status line a head is simply
the lines between CRLFs.
"""

cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint8_t

from crest.wire.head cimport Head, end_of_head, index_fields, line_end, shown

import re

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from crest.exceptions import UpgradeError

cdef int SWITCHING_PROTOCOLS = 101

# RFC 9112 section 4. Some servers leave out the space before a reason phrase that is empty.
cdef object status_line = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?")


@cython.final
cdef class ResponseHead(Head):
    """The status line and the header fields of one response; `ResponseReader` makes it.

    Attributes:
        raw: Exactly the bytes of the head, with the empty line that ends it.
        status: The status code.
        phrase: The reason phrase, decoded as Latin-1; perhaps "".
    """

    cdef readonly int status
    cdef readonly str phrase


@cython.final
cdef class Content:
    """Keeps the content of a response as httptools finds it, up to a limit.

    Attributes:
        kept: The content.
        begun: The head before it is complete.
        complete: It has ended, or is over the limit.
    """

    cdef bytearray kept
    cdef size_t limit
    cdef bint begun, complete

    def __cinit__(self, size_t limit):
        self.kept = bytearray()
        self.limit = limit

    def on_headers_complete(self):
        """Learn that the head has ended; httptools calls this."""
        self.begun = True

    def on_body(self, bytes data):
        """Take more content; httptools calls this."""
        if not self.complete:
            self.kept += data[:self.limit - len(self.kept)]
            self.complete = <size_t>len(self.kept) == self.limit

    def on_message_complete(self):
        """Learn that the response has ended; httptools calls this."""
        self.complete = True


@cython.final
cdef class ResponseReader:
    """Reads one response from bytes that may be split anywhere. Interim responses before it are skipped.

    Args:
        max_size: Bytes that the head may have, those of interim responses included.
        max_headers: Header fields that it may have.
        max_body: Bytes of content that are kept; what comes behind them is not read.

    Attributes:
        rest: Once a response of status 101 is complete, the bytes that came behind it.
    """

    cdef readonly bytes rest
    cdef size_t max_size, max_headers
    cdef bytearray begun            # a head that is not complete
    cdef ResponseHead head          # while its content comes
    cdef Content content
    cdef object parser

    def __init__(self, size_t max_size=16384, size_t max_headers=100, size_t max_body=16384):
        self.rest = b""
        self.max_size = max_size
        self.max_headers = max_headers
        self.begun = bytearray()
        self.content = Content(max_body)

    @property
    def body(self):
        """The content, decoded of its chunks, as far as it has come and may be kept."""
        return bytes(self.content.kept)

    def feed(self, bytes data not None):
        """Take the next bytes of the connection. Not to be called again once there is a response, or this has raised.

        Returns:
            The head of the response, when it is complete with its content; None while more bytes are needed.

        Raises:
            UpgradeError: The head is malformed, too large, or has too many fields.
        """
        while self.head is None:
            if not self.read_head(data):
                return None
            data, self.rest = self.rest, b""
            if self.head.status == SWITCHING_PROTOCOLS:
                self.rest = data
                return self.head
            if self.head.status < 200:
                self.head = None
        return self.head if self.read_content(data) else None

    def feed_eof(self):
        """Learn that the server has closed its half, while a response was awaited.

        Returns:
            The head of the response: its content has ended here, or is cut off.

        Raises:
            UpgradeError: The head is not complete.
        """
        if self.head is None:
            raise UpgradeError(
                "the server has ended the connection within its response" if self.begun
                else "the server has ended the connection without a response")
        return self.head

    cdef bint read_head(self, bytes data) except -1:
        """Read a head up to its end: then `rest` is what came behind it. Returns False while more bytes are needed."""
        cdef size_t known = len(self.begun), end
        if not data:
            return False
        self.begun += data
        end = end_of_head(<uint8_t*>PyByteArray_AS_STRING(self.begun), known, len(self.begun), self.max_size)
        if self.parser is None:
            self.parser = HttpResponseParser(self.content)
        self.judge(data[:(end or self.max_size) - known])
        if not end:
            if <size_t>len(self.begun) >= self.max_size:
                raise UpgradeError("the head of the response is too long")
            return False
        self.head = split(bytes(self.begun[:end]), self.max_headers)
        self.rest = bytes(self.begun[end:])
        self.begun = bytearray()
        self.max_size -= end
        if self.head.status < 200:
            self.parser = None
            self.content.begun = self.content.complete = False  # an interim response has none, and says so
        return True

    cdef bint read_content(self, bytes data) except -1:
        """Read content. Returns True if that was the end of it, or it can not be read."""
        if data and not self.content.complete:
            try:
                self.parser.feed_data(data)
            except HttpParserError:
                self.content.complete = True
        return self.content.complete

    cdef int judge(self, bytes chunk) except -1:
        try:
            self.parser.feed_data(chunk)
        except HttpParserUpgrade:
            pass
        except HttpParserError as error:
            # Behind a head of status 101 httptools says in one way or the other that no HTTP follows.
            if not self.content.begun:
                raise UpgradeError(f"what the server answers is no HTTP response: {error}") from None
        return 0


cdef ResponseHead split(bytes raw, size_t max_headers):
    """Take a head apart that the parser accepted."""
    cdef ResponseHead head = ResponseHead.__new__(ResponseHead)
    cdef size_t end = line_end(<const uint8_t*>PyBytes_AS_STRING(raw), 0, len(raw)), count
    found = status_line.fullmatch(raw, 0, end)
    if found is None:
        raise UpgradeError(f"the server does not answer in HTTP/1.1: {shown(raw[:end].decode('latin-1'))}")
    minor, status, phrase = found.groups()
    head.raw = raw
    head.is_1_1 = minor == b"1"
    head.status = int(status)
    head.phrase = (phrase or b"").decode("latin-1")
    count = index_fields(head, end + 2, max_headers)
    if count > max_headers:
        raise UpgradeError(f"the response has {count} header fields; the limit is {max_headers}")
    return head
