"""The records of one worker, as its exchange sees them and as the test sends them in the place of others."""

from crest.cluster.record import RecordKind, Unpacked, pack, server_id
from support.bus import Peer, Worker

SERVER = server_id("/")


def sent(made: Worker, peer: Peer, kind: int = RecordKind.MESSAGE) -> list[Unpacked]:
    """The records of a kind that the worker has sent."""
    made.stage.end_turn(2)
    return [record for record in come(peer) if record.kind == kind]


def come(peer: Peer) -> list[Unpacked]:
    """What has come for the application's sake; not the names that the worker listens to."""
    return [record for record in peer.records() if (record.kind, record.server) != (RecordKind.INTEREST, 0)]


def start(plain: int, addressed: int = 0, incarnation: int = 7, origin: int = 2) -> bytes:
    numbers = b"".join(number.to_bytes(8, "little") for number in (incarnation, plain, addressed))
    return pack(RecordKind.START, numbers, origin=origin)
