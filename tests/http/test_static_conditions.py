"""crest.http.static: conditional requests and ranges (RFC 9110 sections 13 and 14)."""

import sys
import time
from pathlib import Path

import pytest
from support.static import MODIFIED, MODIFIED_TEXT, get

ETAG = f'"{MODIFIED * 10**9:x}-a"'.encode()


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (b"If-None-Match: " + ETAG, 304),
        (b"If-None-Match: W/" + ETAG, 304),
        (b'If-None-Match: "x", ' + ETAG, 304),
        (b"If-None-Match: *", 304),
        (b'If-None-Match: "x"', 200),
        (b"If-None-Match: " + ETAG.strip(b'"'), 200),
        (b"If-None-Match:", 200),
        (b"If-Modified-Since: Sun, 13 Sep 2020 12:26:40 GMT", 304),
        (b"If-Modified-Since: Sun, 13 Sep 2020 12:26:41 GMT", 304),
        (b"If-Modified-Since: Sun, 13 Sep 2020 12:26:39 GMT", 200),
        (b"If-Modified-Since: Sun, 13 Sep 2020 12:26:40 -0000", 304),
        (b"If-Modified-Since: Sunday, 13-Sep-20 12:26:40 GMT", 304),
        (b"If-Modified-Since: yesterday", 200),
        (b"If-Modified-Since:", 200),
        (b"If-Modified-Since: Sun, 99 Sep 99999 12:26:40 GMT", 200),
        (b"If-Modified-Since: \xff", 200),
        (b"If-Modified-Since: Sun, 13 Sep 2_030 12:26:40 GMT", 200),
    ],
)
def test_conditional_requests(root: Path, header: bytes, status: int) -> None:
    response, content = get(root, "/static/a%20b.txt", header)
    assert response.status == status
    assert response.headers["ETag"].encode() == ETAG
    assert content == (b"" if status == 304 else b"0123456789")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no tzset")
@pytest.mark.parametrize("zone", ["UTC+5", "UTC-5"])
def test_dates_are_gmt_wherever_the_server_is(root: Path, monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        for second, status in (("39", 200), ("40", 304)):
            header = f"If-Modified-Since: Sun, 13 Sep 2020 12:26:{second} -0000".encode()
            response, _ = get(root, "/static/a%20b.txt", header)
            assert (response.status, response.headers["Last-Modified"]) == (status, MODIFIED_TEXT)
    time.tzset()


def test_if_none_match_counts_before_the_date(root: Path) -> None:
    response, _ = get(
        root, "/static/a%20b.txt", b'If-None-Match: "x"', b"If-Modified-Since: Sun, 13 Sep 2020 12:26:40 GMT"
    )
    assert response.status == 200


def test_the_etag_follows_the_file(root: Path) -> None:
    (root / "a b.txt").write_bytes(b"9876543210")
    assert get(root, "/static/a%20b.txt", b"If-None-Match: " + ETAG)[0].status == 200


@pytest.mark.parametrize(
    ("value", "content", "told"),
    [
        (b"bytes=0-3", b"0123", "bytes 0-3/10"),
        (b"bytes=4-", b"456789", "bytes 4-9/10"),
        (b"bytes=-3", b"789", "bytes 7-9/10"),
        (b"bytes=-100", b"0123456789", "bytes 0-9/10"),
        (b"bytes=9-9", b"9", "bytes 9-9/10"),
        (b"bytes=5-999999999999999999", b"56789", "bytes 5-9/10"),
        (b"Bytes= 1-2 ", b"12", "bytes 1-2/10"),
    ],
)
def test_one_range_is_206(root: Path, value: bytes, content: bytes, told: str) -> None:
    response, found = get(root, "/static/a%20b.txt", b"Range: " + value)
    assert (response.status, found, response.headers["Content-Range"]) == (206, content, told)


@pytest.mark.parametrize("value", [b"bytes=10-", b"bytes=10-11", b"bytes=-0", b"bytes=999999-"])
def test_a_range_behind_the_end_is_416(root: Path, value: bytes) -> None:
    response, _ = get(root, "/static/a%20b.txt", b"Range: " + value)
    assert (response.status, response.headers["Content-Range"]) == (416, "bytes */10")


def test_a_range_of_an_empty_file_is_416(root: Path) -> None:
    assert get(root, "/static/bare/x.css", b"Range: bytes=0-")[0].status == 416


@pytest.mark.parametrize(
    "value",
    [
        b"bytes=0-1,3-4", b"bytes=3-1", b"bytes=-", b"bytes=", b"items=0-1", b"bytes=a-b", b"bytes=+1-2", b"bytes=1 -2",
        b"bytes=\xb2-", b"bytes=0-" + b"9" * 5000, b"bytes=" + b" " * 10_000 + b"x", b"",
    ],
)  # fmt: skip
def test_other_ranges_are_ignored(root: Path, value: bytes) -> None:
    response, content = get(root, "/static/a%20b.txt", b"Range: " + value)
    assert (response.status, content) == (200, b"0123456789")


@pytest.mark.parametrize(
    ("condition", "status"),
    [(ETAG, 206), (MODIFIED_TEXT.encode(), 206), (b'"x"', 200), (b"W/" + ETAG, 200), (b"Sun, 13 Sep 2020", 200)],
)
def test_if_range(root: Path, condition: bytes, status: int) -> None:
    response, _ = get(root, "/static/a%20b.txt", b"Range: bytes=0-1", b"If-Range: " + condition)
    assert response.status == status


def test_head_ignores_ranges(root: Path) -> None:
    assert get(root, "/static/a%20b.txt", b"Range: bytes=0-1", method=b"HEAD")[0].status == 200
