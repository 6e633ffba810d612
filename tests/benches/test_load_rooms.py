"""The load generator knows what is due in rooms: each message to every member, once, in its sender's order.

What else can be wrong with a message or a frame is in test_load.py and test_load_frames.py.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from scripted import ROOMS, TEXT, Connection, Server, expect_failure, frame, run

CONNECTIONS, SENT = 24, 20  # as in ROOMS
ONE_EACH = (*ROOMS, "--rooms", "6")
THREE_EACH = (*ROOMS, "--rooms", "12", "--each", "3")


@dataclass
class Rooms(Server):
    """Sends each message to one of its sender's rooms after the other."""

    published: Counter[int] = field(default_factory=Counter)

    def names(self, connection: Connection) -> list[str]:
        return connection.target.removeprefix("/ws?rooms=").split(",")

    def audience(self, sender: Connection) -> list[Connection]:
        names = self.names(sender)
        number = self.published[sender.index]
        self.published[sender.index] += 1
        return self.of(sender, number, names[number % len(names)])

    def of(self, sender: Connection, number: int, room: str) -> list[Connection]:
        """The members that get message `number` of the sender; a test replaces this."""
        return [each for each in self.connections if room in self.names(each)]


class TestRightServer:
    @pytest.mark.parametrize("each", [1, 2, 3, 7, 12])
    @pytest.mark.parametrize("depth", [1, 4])
    def test_rooms(self, load: Path, each: int, depth: int) -> None:
        outcome = run(load, Rooms(), *ROOMS, "--rooms", "12", "--each", str(each), "--depth", str(depth))
        assert outcome.figures["messages"] == 12 * SENT * (CONNECTIONS * each // 12)

    @pytest.mark.parametrize(
        ("rooms", "senders", "deliveries"),
        [(1, None, 24), (1, 24, 24 * 24), (12, 5, 5 * 2), (12, 24, 24 * 2), (7, None, 24), (100, None, 24)],
    )
    def test_senders(self, load: Path, rooms: int, senders: int | None, deliveries: int) -> None:
        """One for each room, or as many as it says; members of rooms that do not divide the connections differ."""
        arguments = ("--senders", str(senders)) if senders else ()
        figures = run(load, Rooms(), *ROOMS, "--rooms", str(rooms), *arguments).figures
        assert figures["messages"] == SENT * deliveries
        assert figures["senders"] == (senders or min(rooms, CONNECTIONS))

    def test_every_connection_is_in_as_many_rooms_and_every_room_has_as_many_members(self, load: Path) -> None:
        server = Rooms()
        assert run(load, server, *THREE_EACH).status == 0
        names = [server.names(each) for each in server.connections]
        assert {len(set(each)) for each in names} == {3}
        assert Counter(name for each in names for name in each) == {str(room): 6 for room in range(12)}

    def test_latency_is_measured_with_one_in_flight(self, load: Path) -> None:
        figures = run(load, Rooms(), *ONE_EACH, "--depth", "1").figures
        assert 0 < figures["p50_us"] <= figures["p99_us"] <= figures["p999_us"]

    def test_fragments_that_cut_the_name(self, load: Path) -> None:
        class Fragmenting(Connection):
            def delivered(self, opcode: int, payload: bytes) -> bytes:
                pieces = payload[:5], payload[5:12], payload[12:]
                return b"".join(frame(opcode * (not i), piece, fin=i == 2) for i, piece in enumerate(pieces))

        assert run(load, Rooms(Fragmenting), *THREE_EACH).status == 0

    def test_messages_that_are_only_a_name(self, load: Path) -> None:
        assert run(load, Rooms(), *THREE_EACH, "--size", "12").figures["size"] == 12


class TestWrongServer:
    @pytest.mark.parametrize("arguments", [ONE_EACH, THREE_EACH])
    def test_member_left_out(self, load: Path, arguments: tuple[str, ...]) -> None:
        class LeavingOut(Rooms):
            def of(self, sender: Connection, number: int, room: str) -> list[Connection]:
                members = super().of(sender, number, room)
                return members[1:] if number == 5 else members

        expect_failure(run(load, LeavingOut(), *arguments), " where 5 was due (lost or out of order)")

    @pytest.mark.parametrize("arguments", [ONE_EACH, THREE_EACH])
    def test_last_message_lost(self, load: Path, arguments: tuple[str, ...]) -> None:
        class LeavingOut(Rooms):
            def of(self, sender: Connection, number: int, room: str) -> list[Connection]:
                members = super().of(sender, number, room)
                return members[1:] if number == SENT - 1 and sender.index == 3 else members

        outcome = run(load, LeavingOut(), *arguments, "--stall", "0.3")
        expect_failure(outcome, "lost: 1 of ")

    @pytest.mark.parametrize("number", [5, SENT - 1])
    @pytest.mark.parametrize("arguments", [ONE_EACH, THREE_EACH])
    def test_member_twice(self, load: Path, arguments: tuple[str, ...], number: int) -> None:
        class Repeating(Rooms):
            def of(self, sender: Connection, at: int, room: str) -> list[Connection]:
                members = super().of(sender, at, room)
                return members + members[-1:] if at == number else members

        expect_failure(run(load, Repeating(), *arguments), f"message {number} of sender ")
        expect_failure(run(load, Repeating(), *arguments), "(duplicated or out of order)")

    def test_message_to_a_room_that_is_not_the_receiver_s(self, load: Path) -> None:
        class Foreign(Rooms):
            def of(self, sender: Connection, number: int, room: str) -> list[Connection]:
                members = super().of(sender, number, room)
                return [*members, self.connections[sender.index + 1]] if number == 5 else members

        expect_failure(run(load, Foreign(), *ONE_EACH), ", where it is no member")

    def test_message_to_another_room_of_its_sender_as_well(self, load: Path) -> None:
        class Mistaking(Rooms):
            def of(self, sender: Connection, number: int, room: str) -> list[Connection]:
                members, other = super().of(sender, number, room), self.names(sender)[0]
                if number == 5:
                    members += [each for each in super().of(sender, number, other) if each not in members]
                return members

        outcome = run(load, Mistaking(), *THREE_EACH)
        expect_failure(outcome, "message 5 of sender ")
        assert ", where it is no member" in outcome.err

    def test_order_of_a_sender_across_rooms(self, load: Path) -> None:
        """Two of a sender's messages reach members of both their rooms in the order in which they were sent."""

        class Delaying(Connection):
            def delivered(self, opcode: int, payload: bytes) -> bytes:
                held, self.held = self.held, b""
                if self.index == 7 and self.sent == 5:
                    self.held = frame(opcode, payload)
                    return b""
                return frame(opcode, payload) + held

        # In all rooms: a later message is the next number, whatever its room is.
        arguments = (*ROOMS, "--connections", "8", "--rooms", "2", "--each", "2", "--senders", "1")
        expect_failure(run(load, Rooms(Delaying), *arguments), "message 6 of sender 0 where 5 was due (lost or out")

    def test_one_bit(self, load: Path) -> None:
        class Corrupting(Connection):
            def delivered(self, opcode: int, payload: bytes) -> bytes:
                wrong = payload[:40] + bytes([payload[40] ^ 1]) + payload[41:]
                return frame(opcode, wrong if self.index == 1 and self.sent == 5 else payload)

        expect_failure(run(load, Rooms(Corrupting), *ONE_EACH), "is corrupted: byte 40 is 0x")

    def test_sender_that_does_not_exist(self, load: Path) -> None:
        class Inventing(Connection):
            def delivered(self, opcode: int, payload: bytes) -> bytes:
                return frame(opcode, payload[:8] + b"____" + payload[12:])

        expect_failure(run(load, Rooms(Inventing), *ONE_EACH), ", which sends none")

    def test_name_that_is_none(self, load: Path) -> None:
        class Inventing(Connection):
            def delivered(self, opcode: int, payload: bytes) -> bytes:
                return frame(opcode, b"!" + payload[1:])

        expect_failure(run(load, Rooms(Inventing), *ONE_EACH), "a message that does not name its sender")

    def test_message_that_was_never_sent(self, load: Path) -> None:
        class Early(Rooms):
            def of(self, sender: Connection, number: int, room: str) -> list[Connection]:
                members = super().of(sender, number, room)
                for each in members:
                    each.writer.write(frame(TEXT, b"B" + b"A" * 7 + b"AAAA"))  # number 1 of sender 0
                return members

        arguments = (*ROOMS, "--rooms", "1", "--size", "12", "--depth", "1", "--messages", "1")
        expect_failure(run(load, Early(), *arguments), "message 1 of sender 0 where 0 was due")

    def test_message_behind_the_last(self, load: Path) -> None:
        class Adding(Connection):
            def delivered(self, opcode: int, payload: bytes) -> bytes:
                return frame(opcode, payload) + frame(TEXT, b"B" + b"A" * 7 + b"AAAA")

        arguments = (*ROOMS, "--rooms", "1", "--size", "12", "--depth", "1", "--messages", "1")
        expect_failure(run(load, Rooms(Adding), *arguments), "message 1 of sender 0, which has sent only 1")


class TestCommandLine:
    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            (("--rooms", "3", "--each", "4"), "a connection cannot be in 4 of 3 rooms"),
            (("--size", "11"), "rooms need messages of 12 bytes or more"),
        ],
    )
    def test_refused(self, load: Path, arguments: tuple[str, ...], text: str) -> None:
        expect_failure(run(load, Rooms(), *ROOMS, *arguments), text)
