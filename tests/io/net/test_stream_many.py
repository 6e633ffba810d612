"""crest.io.net.stream: connections that are served side by side, and connections to which anything happens."""

import asyncio
import random
import socket
from contextvars import ContextVar

import pytest
from support.client import GUARD
from support.ends import End, Ends, Whose, ends, settled
from support.events import on_each_loop

from crest.io.loop.poller import Poller

pytestmark = pytest.mark.skipif(not Poller.exists, reason="sockets are served by the loop's transports here")


# ---- Several connections ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["close", "abort", "pause_reading"])
@on_each_loop
async def test_one_connection_ends_another_that_is_ready_in_the_same_moment(what: str) -> None:
    """Whoever is first ends the other, which must not hear of what the kernel had said already."""

    async with ends() as made:
        pair: list[End] = []

        def end_other(end: End) -> None:
            getattr(pair[pair[0] is end].transport, what)()

        pair += [await made.connect(data=end_other), await made.connect(data=end_other)]
        for end in pair:
            end.peer.send(b"x")
        await settled()
        assert sorted(end.data for end in pair) == [b"", b"x"]
        told = [end for end in pair if not end.data]
        assert told[0].calls == (["made"] if what == "pause_reading" else ["made", "lost"])
        assert made.is_quiet()


@on_each_loop
async def test_the_descriptor_of_one_that_ended_may_be_anothers_at_once() -> None:
    """What the kernel said of the old one, in the same moment, is not taken for news of the new one."""
    async with ends() as made:
        fresh: list[End] = []

        def replace(end: End) -> None:
            for other in made.made[:]:
                if other is not end:
                    other.transport.abort()

        olds = [await made.connect(data=replace) for _ in range(3)]
        for end in olds:
            end.peer.send(b"old")
        await settled()
        freed = {end.fd for end in olds if end.transport.fd == -1}
        fresh += [await made.connect() for _ in range(2)]
        assert freed & {end.fd for end in fresh}
        await settled()
        assert [end.calls for end in fresh] == [["made"]] * 2
        fresh[0].peer.send(b"new")
        await settled()
        assert [end.data for end in fresh] == [b"new", b""]


@on_each_loop
async def test_more_are_ready_than_the_kernel_tells_at_once() -> None:
    async with ends() as made:
        many = [await made.connect() for _ in range(600)]
        for i, end in enumerate(many):
            end.peer.send(b"%d" % i)
        await settled()
        assert [end.data for end in many] == [b"%d" % i for i in range(600)]
        for end in many:
            end.peer.close()
        await settled()
        assert {end.story for end in many} == {"made data eof lost"}


@on_each_loop
async def test_a_flood_starves_neither_others_nor_the_loop() -> None:
    """A connection that always has more to read gets one read a turn."""

    def flood(end: End) -> None:
        end.data = b""
        try:
            while True:
                end.peer.send(bytes(1 << 16))
        except BlockingIOError:
            pass

    async with ends() as made:
        floods = [await made.connect(data=flood) for _ in range(300)]
        quiet = await made.connect()
        for end in floods:
            end.peer.send(b"x")
        await settled()
        before = [len(end.calls) for end in floods]
        called: list[str] = []
        asyncio.get_running_loop().call_later(0, called.append, "timer")
        quiet.peer.send(b"x")
        await settled()
        assert quiet.data == b"x"
        assert called == ["timer"]
        after = [len(end.calls) for end in floods]
        assert all(0 < new - old <= 16 for old, new in zip(before, after, strict=True)), "each has its turn"


# ---- Contexts --------------------------------------------------------------------------------------------------------

current: ContextVar[str] = ContextVar("current", default="nobody's")


@on_each_loop
async def test_callbacks_share_a_context_of_their_own() -> None:
    """As with asyncio's transports: what one callback sets the next ones see, and nobody else."""
    seen: list[tuple[str, str]] = []

    async with ends() as made:
        current.set("the starter's")

        def note(end: End) -> None:
            seen.append((end.calls[-1], current.get()))
            current.set(f"{end.fd}'s {end.calls[-1]}")

        names = ["made", "data", "pause", "resume", "eof", "lost"]
        one, two = [await made.connect(**dict.fromkeys(names, note)) for _ in range(2)]
        assert seen == [("made", "the starter's")] * 2
        assert current.get() == "the starter's"
        for end in (one, two):
            end.peer.send(b"x")
        await settled()
        assert seen[2:] == [("data", f"{end.fd}'s made") for end in (one, two)]
        del seen[:]
        one.fill()
        one.transport.set_write_buffer_limits(0)
        asyncio.get_running_loop().call_soon(one.transport.write, b"x")  # not from a callback: in the caller's context
        await settled()
        assert seen == [("pause", "the starter's")]
        one.read()
        await settled()
        one.peer.shutdown(socket.SHUT_WR)
        await one.until("lost")
        assert [what for what, _ in seen[1:]] == ["resume", "eof", "lost"]
        assert [where for _, where in seen[1:]] == [f"{one.fd}'s {what}" for what in ("data", "resume", "eof")]


@on_each_loop
async def test_a_timer_that_a_callback_sets_runs_in_its_context() -> None:
    seen: list[str] = []

    def set_timer(end: End) -> None:
        current.set(f"{end.fd}'s")
        asyncio.get_running_loop().call_later(0, lambda: seen.append(current.get()))

    async with ends() as made:
        one, two = [await made.connect(data=set_timer) for _ in range(2)]
        for end in (one, two):
            end.peer.send(b"x")
        await settled()
        assert sorted(seen) == sorted([f"{one.fd}'s", f"{two.fd}'s"])
        assert one.transport.get_extra_info("context").get(current) == f"{one.fd}'s"


@on_each_loop
async def test_the_loss_is_told_in_the_connections_context_whoever_brings_it_about() -> None:
    async with ends() as made:
        seen: list[str] = []
        end = await made.connect(made=lambda end: current.set("its own"), lost=lambda end: seen.append(current.get()))
        current.set("the closer's")
        end.transport.close()
        await end.until("lost")
        assert seen == ["its own"]


# ---- Any sequence of anything ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
@on_each_loop
async def test_any_sequence_of_calls_keeps_the_rules(seed: int, whose: Whose) -> None:
    """Of asyncio's protocols: made first, lost once and last, an end of stream once at most, pauses and resumptions in
    turn; what one side sends the other gets, in order, without a gap."""
    chance = random.Random(seed)
    async with ends(whose) as made:
        for _ in range(15):
            await live_a_life(made, chance)


async def live_a_life(made: Ends, chance: random.Random) -> None:
    def choose(end: End) -> bool:
        return chance.random() < 0.7

    end = await made.connect(eof=choose)
    sent, written, got = bytearray(), bytearray(), bytearray()
    peer_open = peer_writes = server_writes = True

    def receive(most: int) -> None:
        if peer_open:
            got.extend(end.read(most))

    for i in range(chance.randint(1, 60)):
        doing = chance.random()
        data = bytes([i]) * chance.choice([1, 100, 10_000, 200_000])
        if doing < 0.25 and peer_open and peer_writes:
            try:
                sent += data[: end.peer.send(data)]
            except (BlockingIOError, BrokenPipeError):
                pass
        elif doing < 0.45 and server_writes and not end.transport.is_closing():
            written += data
            end.transport.write(data)
        elif doing < 0.6:
            receive(chance.choice([100, 50_000, 1 << 20]))
        elif doing < 0.65:
            end.transport.pause_reading()
        elif doing < 0.75:
            if "eof" not in end.calls or made.poller:  # asyncio's would tell of the end once more
                end.transport.resume_reading()
        elif doing < 0.77 and peer_open:
            end.peer.shutdown(socket.SHUT_WR)
            peer_writes = False
        elif doing < 0.79 and not end.transport.is_closing():
            try:
                end.transport.write_eof()
            except OSError:
                end.transport.abort()
            server_writes = False
        elif doing < 0.80:
            end.transport.close()
        elif doing < 0.81:
            end.peer.close()
            peer_open = False
        else:
            await settled()
    if peer_open and chance.random() < 0.7:
        clean = not end.transport.is_closing() or "lost" not in end.calls
        end.transport.close()
        async with asyncio.timeout(GUARD):
            while "lost" not in end.calls:
                receive(1 << 20)
                await settled()
        receive(1 << 30)
        if clean and "aborted" not in end.calls:
            assert got == written
    elif "lost" not in end.calls:  # asyncio's transports raise an error then
        end.transport.abort()
        await end.until("lost")
    await settled()
    end.peer.close()
    assert written.startswith(got) and sent.startswith(end.data)
    told = [name for name in end.calls if name != "data"]
    assert told[0] == "made" and told[-1] == "lost" and told.count("lost") == 1
    assert told.count("eof") <= 1
    assert "data" not in end.calls[end.calls.index("eof") :] if "eof" in end.calls else True
    paces = [name for name in told if name in ("pause", "resume")]
    assert paces == ["pause", "resume"] * (len(paces) // 2) + ["pause"] * (len(paces) % 2)
