"""Files of a directory as HTTP responses: conditional requests, one range, and nothing outside of the directory.

Blocking file calls run in the event loop's default executor. The content of a file is not read here but handed on as an
open `FileResponse`.
"""

import errno
import io
import mimetypes
import os
import re
from collections.abc import Callable
from datetime import UTC
from email.utils import formatdate, parsedate_to_datetime
from stat import S_ISDIR, S_ISREG
from typing import Final

from crest.http.errand import in_thread
from crest.http.messages import WHITESPACE, FileResponse, Request, Response

# What Python's own table lacks or has outdated in 3.11. The system's are not used: answers must not vary with them.
_TYPES: Final = {
    ".avif": "image/avif",
    ".js": "text/javascript",
    ".map": "application/json",
    ".mjs": "text/javascript",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
}
_ENCODINGS: Final = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}

# Not a regular file, not there, not allowed or not a possible name: all the same to a client.
_ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL})

# What is put there after the check must not block (a FIFO) nor be followed (a symlink). Some systems lack these flags.
_OPEN_FLAGS: Final = (
    os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
)

WINDOWS: Final = os.name == "nt"

# Names that Windows takes for another one or for no file. In this order: streams ("a.txt::$DATA") and what no name may
# have; short names, as of a hidden file ("HTACCE~1"); dots and spaces that it drops at the end; devices, with any
# extension.
_OF_WINDOWS: Final = re.compile(
    r"""[<>:"|?*\x00-\x1f]|~[0-9]|[. ]\Z"""
    r"|\A(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9\u00b9\u00b2\u00b3]) *(?:\.|\Z)",
    re.IGNORECASE,
)

# What a date of RFC 9110 section 5.6.7 consists of. Python's parser takes more for a number, "2_020" for one.
_DATE: Final = re.compile(r"[A-Za-z0-9 ,:\-]++")

# More digits than a file can have bytes are not worth converting: such a range is ignored.
_RANGE: Final = re.compile(r"bytes=[ \t]*+([0-9]{0,18})-([0-9]{0,18})[ \t]*+", re.ASCII | re.IGNORECASE)


class StaticFiles:
    """The files below one directory.

    Served are regular files; for a directory, its `index.html`. Names that begin with a dot are not served, nor is what
    a symlink reaches outside of the directory or behind such a name. On Windows neither are names that mean something
    else there: devices, streams of a file, short names.

    Args:
        directory: The directory; it must exist.

    Raises:
        ValueError: It is not a directory.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._root = os.path.realpath(directory)
        if not os.path.isdir(self._root):
            raise ValueError(f"not a directory: {os.fspath(directory)!r}")
        self._types = mimetypes.MimeTypes()
        for extension, content_type in _TYPES.items():
            self._types.add_type(content_type, extension)

    async def respond(self, request: Request, relative: str) -> Response:
        """Respond to a request for one of the files.

        Args:
            request: The request.
            relative: The decoded path below the directory, without a leading "/".

        Returns:
            A `FileResponse`, which the caller closes, or a plain one: 301 from a directory to its name with a trailing
            slash, 304, 404, 405, 416.

        Raises:
            OSError: The system fails, for example for want of file descriptors.
        """
        if request.method not in ("GET", "HEAD"):
            return _error(405, "only GET and HEAD are possible here", ("Allow", "GET, HEAD"))
        answer = _Answer()
        try:
            return await in_thread(answer.make, self._respond, request, relative)
        except BaseException:  # the client has gone, most often
            answer.abandon()
            raise

    def _respond(self, request: Request, relative: str) -> Response:
        names = relative.split("/")
        if names[-1] == "":
            names.pop()
        if not all(map(_is_servable, names)):
            return _not_found()
        try:
            path = self._resolve(*names)
            mode = os.stat(path).st_mode
            if S_ISDIR(mode):
                names.append("index.html")
                path = self._resolve(*names)
                mode = os.stat(path).st_mode
                if S_ISREG(mode) and not request.path.endswith("/"):
                    return _redirect(request)
            elif relative.endswith("/"):
                return _not_found()
            return self._open(request, path, names[-1]) if S_ISREG(mode) else _not_found()
        except OSError as error:
            if error.errno in _ABSENT:
                return _not_found()
            raise

    def _resolve(self, *names: str) -> str:
        """Find the real path of what these names reach from the directory.

        Raises:
            FileNotFoundError: It is outside of the directory, or a symlink leads to where no request may.
        """
        path = os.path.realpath(os.path.join(self._root, *names))
        if path == self._root:
            return path
        below = os.path.join(self._root, "")
        if not path.startswith(below):
            raise FileNotFoundError(errno.ENOENT, "outside of the directory", path)
        if not all(map(_is_servable, path[len(below) :].split(os.sep))):
            raise FileNotFoundError(errno.ENOENT, "not a name to serve", path)
        return path

    def _open(self, request: Request, path: str, name: str) -> Response:
        file = io.FileIO(path, opener=lambda path, _: os.open(path, _OPEN_FLAGS))  # which closes it if it fails
        response = None
        try:
            response = self._answer(request, file, path, name)
        finally:
            if not isinstance(response, FileResponse):
                file.close()
        return response

    def _answer(self, request: Request, file: io.FileIO, path: str, name: str) -> Response:
        stat = os.fstat(file.fileno())
        etag = f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"'
        modified = int(stat.st_mtime)
        headers = [("ETag", etag), ("Last-Modified", formatdate(modified, usegmt=True)), ("Accept-Ranges", "bytes")]
        if _is_fresh(request, etag, modified):
            return Response(b"", 304, headers)
        headers.append(("X-Content-Type-Options", "nosniff"))
        size, first, last = stat.st_size, 0, stat.st_size - 1
        status = 200
        wanted = _wanted_range(request, size, etag, headers[1][1])
        if wanted is not None:
            first, last = wanted
            if first > last:
                return _error(416, "the file has no such bytes", ("Content-Range", f"bytes */{size}"))
            file.seek(first)
            status = 206
            headers.append(("Content-Range", f"bytes {first}-{last}/{size}"))
        return FileResponse(file, last - first + 1, path, status, headers, self._content_type(name))

    def _content_type(self, name: str) -> str:
        """Find the type by the name that was asked for: the file that a symlink leads to may have any name."""
        content_type, encoding = self._types.guess_type(name)
        if encoding is not None:
            return _ENCODINGS.get(encoding, "application/octet-stream")
        if content_type is None:
            return "application/octet-stream"
        return f"{content_type}; charset=utf-8" if content_type.startswith("text/") else content_type


class _Answer:
    """A response on its way from the thread that makes it, so that its file is closed if it is not waited for."""

    def __init__(self) -> None:
        self._response: Response | None = None
        self._abandoned = False

    def make(self, respond: Callable[[Request, str], Response], request: Request, relative: str) -> Response:
        """Make it, in the thread."""
        self._response = response = respond(request, relative)
        if self._abandoned:
            self._close()
        return response

    def abandon(self) -> None:
        """Close its file, now or when it has been opened."""
        self._abandoned = True
        self._close()

    def _close(self) -> None:
        if isinstance(self._response, FileResponse):
            self._response.close()


def _is_servable(name: str) -> bool:
    """True if a part of a path may be looked up: not a hidden file, "..", empty, or what some system splits."""
    if name == "" or name[0] == "." or "\\" in name or "\0" in name:
        return False
    return not WINDOWS or _OF_WINDOWS.search(name) is None


def _is_fresh(request: Request, etag: str, modified: int) -> bool:
    """True if the client's copy is current (RFC 9110 section 13.2.2): If-None-Match counts before If-Modified-Since."""
    known = request.headers.getall("If-None-Match", ())
    if known:
        tags = [tag.strip(WHITESPACE).removeprefix("W/") for tag in ",".join(known).split(",")]
        return etag in tags or tags == ["*"]
    since = request.headers.get("If-Modified-Since")
    if since is None or _DATE.fullmatch(since) is None:
        return False
    try:
        return modified <= parsedate_to_datetime(since).replace(tzinfo=UTC).timestamp()  # HTTP dates are GMT
    except (ValueError, TypeError, IndexError, OverflowError):
        return False  # an invalid date is ignored (section 13.1.3)


def _wanted_range(request: Request, size: int, etag: str, last_modified: str) -> tuple[int, int] | None:
    """Find first and last byte of the range asked for (RFC 9110 section 14.2); None to send everything.

    The first is behind the last if the file has no such bytes. Several ranges at once are ignored, as the RFC allows.
    """
    match = _RANGE.fullmatch(request.headers.get("Range", ""))
    if match is None or request.method != "GET" or match[1] == match[2] == "":
        return None
    if request.headers.get("If-Range", etag) not in (etag, last_modified):
        return None
    if match[1] == "":  # "-500": the last 500 bytes
        return max(size - int(match[2]), 0), size - 1
    first = int(match[1])
    last = int(match[2]) if match[2] else size - 1
    if match[2] and last < first:
        return None  # invalid, so it is ignored (section 14.1.1)
    return first, min(last, size - 1)


def _redirect(request: Request) -> Response:
    """Redirect from a directory's name to the one with a trailing slash, against which its relative links resolve.

    The reference is relative, so that a path like "//host/name" cannot lead to another host (RFC 3986 section 5.2).
    """
    name = request.raw_path.rpartition("/")[2]
    query = f"?{request.query_string}" if request.query_string else ""
    return Response(b"", 301, [("Location", f"./{name}/{query}")])


def _not_found() -> Response:
    return _error(404, "not found")


def _error(status: int, reason: str, *headers: tuple[str, str]) -> Response:
    return Response(f"{reason}\n", status, headers, "text/plain")
