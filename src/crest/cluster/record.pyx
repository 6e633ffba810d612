"""What travels between the processes of one machine: records, one behind the other in a stream of bytes.

    header, 40 bytes | addresses | key | payload | deflated payload

| kind | what it carries |
|---|---|
| MESSAGE | a message of one server, to all of its clients or to those in rooms |
| INTEREST | rooms of one server in which the sender has clients from now on |
| DISINTEREST | rooms in which it has none any more |
| GAP | how many messages are missing at this place, and why |
| OPAQUE | what workers tell each other beside messages: bytes, to all workers or to those that listen to a name |
| START | the worker that sends from now on, and what it had sent before |
| LEFT | the worker that is gone |
| VOID | nothing: a record that is not valid any more, and was queued |

A record carries opcode and payload, and no frame: to write the header of a frame costs its reader nothing. Numbers are
in the machine's own byte order. An address is four bytes, twice the size of the name plus 1 for a user's, and the name.

Nothing here trusts the bytes that it reads, with one exception: the payload of a text is UTF-8, as each publisher has
checked that. Records of an unknown kind are whole records. An unknown version is an error: it says nothing about sizes.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy, memset

from crest.io.out.address cimport UserRoom
from crest.io.out.arguments cimport utf8_of
from crest.io.out.relay cimport Message

from enum import IntEnum
from typing import NamedTuple
from zlib import crc32


RecordKind = IntEnum("RecordKind", {
    "VOID": VOID, "MESSAGE": MESSAGE, "INTEREST": INTEREST, "DISINTEREST": DISINTEREST, "GAP": GAP, "OPAQUE": OPAQUE,
    "START": START, "LEFT": LEFT})


class RecordError(ValueError):
    """Bytes that are no record of a version that this process knows."""


def server_id(path):
    """Return the number by which all processes know the server at a path."""
    return crc32(path.encode()) or 1


# ---- Reading ---------------------------------------------------------------------------------------------------------


cdef int read_record(const char* data, size_t size, Record* record) except -1:
    """Read the record that begins here. Returns 1, or 0 if there is only a part of it; `record.header.size` is its
    size if `size` is at least HEADER, else 0."""
    cdef Header* header = &record.header
    cdef size_t rest
    header.size = 0
    if size < HEADER:
        return 0
    memcpy(header, data, HEADER)
    if header.version != VERSION:
        raise RecordError(f"a record has version {header.version}, and this process knows {VERSION} only")
    if header.size < HEADER or header.size > LARGEST:
        raise RecordError(f"a record can not have {header.size} bytes")
    rest = header.size - HEADER
    if <size_t>header.addresses_size + header.key_size + header.deflated_size > rest:
        raise RecordError(f"a record of {header.size} bytes has no room for its parts")
    if header.size > size:
        return 0
    record.addresses = data + HEADER
    record.key = record.addresses + header.addresses_size
    record.payload = record.key + header.key_size
    record.payload_size = rest - header.addresses_size - header.key_size - header.deflated_size
    return 1


cdef bint next_address(const Record* record, const char** at, Address* address) except -1:
    """Read the address at `at`, and move on; NULL begins with the first. False behind the last."""
    cdef const char* end = record.addresses + record.header.addresses_size
    cdef uint32_t size
    if at[0] == NULL:
        at[0] = record.addresses
    if at[0] == end:
        return False
    if end - at[0] >= 4:
        memcpy(&size, at[0], 4)
        address.size = size >> 1
        if <size_t>(end - at[0]) - 4 >= address.size > 0:
            address.of_user = size & 1
            address.whole = at[0]
            address.name = at[0] + 4
            at[0] += 4 + address.size
            return True
    raise RecordError("an address in a record is longer than what is there, or empty")


cdef tuple addresses_of(const Record* record):
    """Return the addresses as the hub knows them; None if there are none: to all."""
    cdef Address address
    cdef const char* at = NULL
    cdef list found = []
    if not record.header.addresses_size:
        return None
    while next_address(record, &at, &address):
        name = text_of(address.name, address.size)
        found.append(UserRoom(name) if address.of_user else name)
    return tuple(found)


cdef str text_of(const char* data, size_t size):
    try:
        return data[:size].decode()
    except UnicodeDecodeError as error:
        raise RecordError(f"a name in a record is no UTF-8: {error}") from None


cdef object key_of(const Record* record):
    """Return the key; None if there is none."""
    cdef uint8_t kind = record.header.key_kind
    cdef bytes data
    if kind == NO_KEY:
        return None
    if kind == TEXT_KEY:
        return text_of(record.key, record.header.key_size)
    data = record.key[:record.header.key_size]
    if kind == BYTES_KEY:
        return data
    if kind == NUMBER_KEY:
        return int.from_bytes(data, "little", signed=True)
    raise RecordError(f"a record has a key of the unknown kind {kind}")


cdef int read_loss(const Record* record, Loss* loss) except -1:
    """Read what a GAP says."""
    if record.payload_size < sizeof(Loss):
        raise RecordError(f"a GAP has {record.payload_size} bytes, at least {sizeof(Loss)} are needed")
    memcpy(loss, record.payload, sizeof(Loss))
    return 0


cdef bint is_loss(const Loss* loss) noexcept:
    """True if anything is missing."""
    return loss.plain or loss.addressed or loss.uncertain or loss.others


cdef void add_loss(Loss* loss, const Loss* more) noexcept:
    """Add what is missing at the same place."""
    if is_loss(more):
        loss.since = min(loss.since, more.since) if is_loss(loss) else more.since
        loss.until = max(loss.until, more.until)
        loss.plain += more.plain
        loss.addressed += more.addressed
        loss.uncertain += more.uncertain
        loss.others += more.others


cdef int read_beginning(const Record* record, Beginning* beginning) except -1:
    """Read what a START says."""
    if record.payload_size < sizeof(Beginning):
        raise RecordError(f"a START has {record.payload_size} bytes, at least {sizeof(Beginning)} are needed")
    memcpy(beginning, record.payload, sizeof(Beginning))
    return 0


# ---- Writing ---------------------------------------------------------------------------------------------------------


cdef void begin_header(Header* header, Kind kind, uint32_t origin) noexcept:
    """Fill in the header of a record of which nothing else is known yet."""
    memset(header, 0, sizeof(Header))
    header.size = HEADER
    header.version = VERSION
    header.kind = kind
    header.origin = origin


cdef bytes measure(Header* header, const Message* message):
    """Fill in the header for a message: its size above all. Returns the bytes of its key; None: it has no key.

    Raises:
        OverflowError: the message is too large for a record.
    """
    cdef bytes key = None
    cdef size_t size
    if <object>message.key is not None:
        key = key_bytes(header, <object>message.key)
        header.key_size = <uint32_t>len(key)
    if <object>message.to is not None:
        measure_addresses(header, <tuple>message.to)
    size = HEADER + <size_t>header.addresses_size + header.key_size + message.size
    if size > LARGEST:
        raise OverflowError(f"a message of {message.size} bytes is too large for a record")
    header.size = <uint32_t>size
    header.opcode = message.opcode
    header.flags = COMPRESS if message.compress else 0
    return key


cdef int measure_addresses(Header* header, tuple addresses) except -1:
    cdef Py_ssize_t size
    cdef size_t total = 0
    for address in addresses:
        utf8_of(name_in(address), &size)
        total += size + 4
    if total > LARGEST:
        raise OverflowError(f"{len(addresses)} rooms are too many for a record")
    header.addresses_size = <uint32_t>total
    return 0


cdef str name_in(object address):
    return address if type(address) is str else (<UserRoom>address).name


cdef bytes key_bytes(Header* header, object key):
    if isinstance(key, int):
        key = int(key)
        header.key_kind = NUMBER_KEY
        return key.to_bytes((key.bit_length() + 8) // 8, "little", signed=True)
    if isinstance(key, bytes):
        header.key_kind = BYTES_KEY
        return bytes(key)
    header.key_kind = TEXT_KEY
    return str.encode(key)


cdef void write(char* target, const Header* header, const Message* message, bytes key) noexcept:
    """Write a record that was measured; `target` has room for it."""
    memcpy(target, header, HEADER)
    target += HEADER
    if header.addresses_size:
        target = write_addresses(target, <tuple>message.to)
    if key is not None:
        memcpy(target, PyBytes_AS_STRING(key), header.key_size)
        target += header.key_size
    if message.size:  # else `data` may be NULL, which memcpy must not get
        memcpy(target, message.data, message.size)


cdef char* write_addresses(char* target, tuple addresses) noexcept:
    """Write addresses whose UTF-8 was asked for before, so that this needs no memory."""
    cdef Py_ssize_t size
    cdef const char* name
    cdef uint32_t word
    for address in addresses:
        name = utf8_of(name_in(address), &size)
        word = <uint32_t>size << 1 | (type(address) is not str)
        memcpy(target, &word, 4)
        memcpy(target + 4, name, size)
        target += 4 + size
    return target


cdef bytes packed(Header* header, const void* payload, size_t size, tuple addresses):
    """Return the whole record of a header that has no key."""
    cdef Message message
    cdef bytes record
    cdef uint8_t opcode = header.opcode
    message.data = <const char*>payload
    message.size = size
    message.key = <PyObject*>None
    message.to = <PyObject*>addresses
    message.compress = False
    measure(header, &message)
    header.opcode = opcode
    record = PyBytes_FromStringAndSize(NULL, header.size)
    write(PyBytes_AS_STRING(record), header, &message, None)
    return record


# ---- For Python ------------------------------------------------------------------------------------------------------


class Unpacked(NamedTuple):
    """A record, as `unpack` returns it."""

    kind: int
    opcode: int
    origin: int
    server: int
    sequence: int
    to: tuple
    key: object
    payload: bytes
    compress: bool


def pack(int kind, bytes payload=b"", *, int opcode=0, uint32_t origin=0, uint32_t server=0, sequence=0, tuple to=None,
         key=None, bint compress=False):
    """Return a record of any kind."""
    cdef Header header
    cdef Message message
    cdef bytes encoded, record
    begin_header(&header, <Kind>kind, origin)
    header.kind = <uint8_t>kind
    header.server = server
    header.sequence = sequence
    message.opcode = <uint8_t>opcode
    message.data = PyBytes_AS_STRING(payload)
    message.size = len(payload)
    message.key = <PyObject*>key
    message.to = <PyObject*>to
    message.compress = compress
    encoded = measure(&header, &message)
    record = PyBytes_FromStringAndSize(NULL, header.size)
    write(PyBytes_AS_STRING(record), &header, &message, encoded)
    return record


def pack_gap(*, int cause=SLOW, uint32_t origin=0, plain=0, addressed=0, uncertain=0, others=0, since=0, until=0):
    """Return a GAP."""
    cdef Header header
    cdef Loss loss
    begin_header(&header, GAP, origin)
    header.opcode = <uint8_t>cause
    loss.plain, loss.addressed, loss.uncertain, loss.others = plain, addressed, uncertain, others
    loss.since, loss.until = since, until
    return packed(&header, &loss, sizeof(loss), None)


def gap_in(bytes record):
    """Return what a GAP says: cause, and messages to all, to rooms, perhaps to rooms, and OPAQUE records."""
    cdef Record read
    cdef Loss loss
    if not read_record(PyBytes_AS_STRING(record), len(record), &read) or read.header.kind != GAP:
        raise RecordError("this is no whole GAP")
    read_loss(&read, &loss)
    return read.header.opcode, loss.plain, loss.addressed, loss.uncertain, loss.others


def unpack(bytes data):
    """Return the whole records in some bytes, and the rest behind them.

    Raises:
        RecordError: there is something else.
    """
    cdef Record record
    cdef size_t at = 0
    found = []
    while read_record(PyBytes_AS_STRING(data) + at, len(data) - at, &record):
        found.append(Unpacked(
            record.header.kind, record.header.opcode, record.header.origin, record.header.server,
            record.header.sequence, addresses_of(&record), key_of(&record), record.payload[:record.payload_size],
            bool(record.header.flags & COMPRESS)))
        at += record.header.size
    return found, data[at:]
