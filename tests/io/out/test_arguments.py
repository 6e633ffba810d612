"""crest.io.out.arguments: what close() may be told; send() and broadcast() have their tests with their own rooms."""

import pytest

from crest.io.out.arguments import check_close


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1014, 3000, 4999])
def test_codes_that_may_be_sent(code: int) -> None:
    check_close(code, "x" * 123)


@pytest.mark.parametrize("code", [-1, 0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65536, 1 << 80])
def test_codes_that_may_not(code: int) -> None:
    with pytest.raises(ValueError, match=f"close code {code} may not be sent"):
        check_close(code, "")


def test_a_reason_is_counted_in_bytes_of_utf8() -> None:
    check_close(1000, "ä" * 61)
    with pytest.raises(ValueError, match="close reason has 124 bytes of UTF-8, at most 123 fit"):
        check_close(1000, "ä" * 62)


def test_wrong_types() -> None:
    with pytest.raises(TypeError, match="close code must be int, not str"):
        check_close("1000", "")
    with pytest.raises(TypeError, match="close reason must be str, not bytes"):
        check_close(1000, b"bye")
