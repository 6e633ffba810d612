"""The kernels through their Python faces, side by side with what they stand against. No sockets, no frames.

    pytest benches/bench_kernels.py --benchmark-columns=min,median,iqr,ops

Each group is one job: crest's variants, its peers, and "memcpy", a plain copy into a new object, as the bound. Every
row pays a Python call, some 0.1 us: below a few hundred bytes the rows compare calls, not kernels. Unmasking makes a
new object in every row; validation makes none, except in the rows "decode" and "memcpy".

Decoding is measured on many messages of the same kind in turn: a processor learns the order of letters in one that it
sees again and again, and then a decoder that branches at every letter looks two to five times as fast as it is.
"""

import random
import re
from collections import deque
from collections.abc import Callable
from itertools import repeat
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from support import reference
from websockets.speedups import apply_mask

from crest.kernels import decoder, mask, utf8

KIB = 1024
KEY = bytes.fromhex("37fa213d")
SIZES = [16, 64, 125, KIB, 64 * KIB, KIB * KIB]
LARGEST_FOR_PYTHON = KIB

TEXTS = {
    "ASCII": "The quick brown fox jumps over the lazy dog. ",
    "Greek, two bytes a letter": "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. ",
    "Chinese, three bytes a letter": "視野無限廣窗外有藍天。",
    "emoji, four bytes each": "😀😃😄😁😆😅🤣😂",
}

words = re.compile(r"\S+ ").findall
# What messages are made of, in random order.
PIECES = {
    "ASCII": words("the quick brown fox jumps over a lazy dog, and then some more words follow. "),
    "German": words("Straße für über Grüße können müssen das ist ein Satz mit einigen Wörtern nach Köln, der Tür "),
    "Russian": words("Съешь же ещё этих мягких французских булок, да выпей чаю. Потом пойдём домой "),
    "Greek": words("Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. Το φως της ημέρας έρχεται πάλι, από τη θάλασσα "),
    "Chinese": list("視野無限廣窗外有藍天，宇宙洪荒日月盈昃。辰宿列張寒來暑往，秋收冬藏。"),
    "emoji": list("😀😃😄😁😆😅🤣😂🙂🙃😉😊😇🥰😍🤩😘"),
    "JSON": ['{"id":120745,"user":"', "Иван", '","text":"', "Hello, ", "世界", "how are you? ", "😀", '","ok":true},'],
}
DIFFERENT_MESSAGES = {64: 1000, KIB: 200, 64 * KIB: 8}


def measure(benchmark: BenchmarkFixture, group: str, size: int, call: Callable[..., Any], *arguments: Any) -> Any:
    benchmark.group = group
    benchmark.extra_info["bytes"] = size
    result = benchmark(call, *arguments)
    if benchmark.stats is not None:
        benchmark.extra_info["gigabytes_per_second"] = round(size / benchmark.stats.stats.median / 1e9, 2)
    return result


class TestUnmask:
    @staticmethod
    def measure(benchmark: BenchmarkFixture, size: int, call: Callable[..., Any], *arguments: Any) -> Any:
        return measure(benchmark, f"unmask {size:>7} bytes", size, call, *arguments)

    @pytest.mark.parametrize("size", SIZES)
    def test_memcpy(self, benchmark: BenchmarkFixture, size: int) -> None:
        self.measure(benchmark, size, bytes, bytearray(size))

    @pytest.mark.parametrize("size", SIZES)
    def test_crest(self, benchmark: BenchmarkFixture, size: int) -> None:
        assert len(self.measure(benchmark, size, mask.unmask, bytes(size), KEY)) == size

    @pytest.mark.parametrize("variant", mask.variants())
    @pytest.mark.parametrize("size", SIZES)
    def test_crest_variant(self, benchmark: BenchmarkFixture, size: int, variant: str) -> None:
        assert len(self.measure(benchmark, size, mask.unmask_with, variant, bytes(size), KEY)[0]) == size

    @pytest.mark.parametrize("size", SIZES)
    def test_websockets(self, benchmark: BenchmarkFixture, size: int) -> None:
        assert len(self.measure(benchmark, size, apply_mask, bytes(size), KEY)) == size

    @pytest.mark.parametrize("size", [size for size in SIZES if size <= LARGEST_FOR_PYTHON])
    def test_python(self, benchmark: BenchmarkFixture, size: int) -> None:
        assert len(self.measure(benchmark, size, reference.unmask, bytes(size), KEY)) == size


@pytest.mark.parametrize("language", TEXTS)
class TestValidate:
    @staticmethod
    def measure(benchmark: BenchmarkFixture, language: str, call: Callable[..., Any], *arguments: Any) -> Any:
        """The text is the last argument: 64 KiB, less what its last character does not fit into."""
        letters = TEXTS[language].encode()
        text = letters * (64 * KIB // len(letters))
        return measure(benchmark, f"validate 64 KiB of {language}", len(text), call, *arguments, text)

    def test_memcpy(self, benchmark: BenchmarkFixture, language: str) -> None:
        self.measure(benchmark, language, bytearray)

    def test_crest(self, benchmark: BenchmarkFixture, language: str) -> None:
        assert self.measure(benchmark, language, utf8.is_valid)

    @pytest.mark.parametrize("variant", utf8.variants())
    def test_crest_variant(self, benchmark: BenchmarkFixture, language: str, variant: str) -> None:
        assert self.measure(benchmark, language, utf8.is_valid_with, variant)

    def test_crest_stream(self, benchmark: BenchmarkFixture, language: str) -> None:
        assert self.measure(benchmark, language, utf8.Validator().feed)

    def test_decode(self, benchmark: BenchmarkFixture, language: str) -> None:
        assert self.measure(benchmark, language, bytes.decode)


@pytest.mark.parametrize("language", PIECES)
@pytest.mark.parametrize("size", DIFFERENT_MESSAGES)
class TestDecode:
    @staticmethod
    def measure(
        benchmark: BenchmarkFixture, language: str, size: int, call: Callable[..., Any], *arguments: Any
    ) -> None:
        """The message is the last argument. Times are those of all messages together."""
        chance = random.Random(3629)
        made = ["".join(chance.choices(PIECES[language], k=size)) for _ in range(DIFFERENT_MESSAGES[size])]
        messages = [text.encode()[:size].decode(errors="ignore").encode() for text in made]
        assert [call(*arguments, message) for message in messages] == [message.decode() for message in messages]
        group = f"decode {len(messages)} x {size} bytes, {language}"
        measure(benchmark, group, size * len(messages), decode_all, call, arguments, messages)

    def test_crest(self, benchmark: BenchmarkFixture, language: str, size: int) -> None:
        self.measure(benchmark, language, size, decoder.decode)

    @pytest.mark.parametrize("variant", decoder.variants())
    def test_crest_variant(self, benchmark: BenchmarkFixture, language: str, size: int, variant: str) -> None:
        self.measure(benchmark, language, size, decoder.decode_with, variant)

    def test_cpython(self, benchmark: BenchmarkFixture, language: str, size: int) -> None:
        self.measure(benchmark, language, size, bytes.decode)


def decode_all(call: Callable[..., str], arguments: tuple[Any, ...], messages: list[bytes]) -> None:
    deque(map(call, *map(repeat, arguments), messages), maxlen=0)
