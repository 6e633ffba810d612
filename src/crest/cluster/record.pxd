# What travels between processes; see record.pyx.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from crest.io.out.relay cimport Message

cdef enum:
    VERSION = 1
    HEADER = 40                 # bytes
    LARGEST = 1 << 30           # bytes of a record

cdef enum Kind:
    VOID
    MESSAGE
    INTEREST
    DISINTEREST
    GAP
    OPAQUE
    START
    LEFT

cdef enum:
    WORKERS = 0                 # in place of a server: what workers say to each other, to those that listen to a name

cdef enum Flag:
    COMPRESS = 1
    DEFLATED = 2                # a deflated copy of the payload follows it; for later

cdef enum KeyKind:
    NO_KEY
    TEXT_KEY
    BYTES_KEY
    NUMBER_KEY

cdef enum Cause:
    SLOW = 1                    # the reader of this link did not keep up
    AWAY                        # the publisher's own queue was full

cdef struct Header:
    uint32_t size               # of the whole record
    uint8_t version
    uint8_t kind
    uint8_t flags
    uint8_t opcode              # of a MESSAGE; of a GAP its Cause
    uint32_t origin             # number of the worker that it comes from
    uint32_t server             # see server_id()
    uint64_t sequence           # of a MESSAGE: it counts those to all, and those with addresses, each for itself
    uint32_t addresses_size
    uint32_t key_size
    uint32_t deflated_size
    uint8_t key_kind
    uint8_t reserved[3]

# What a GAP says, behind its header.
cdef struct Loss:
    uint64_t plain              # messages to all
    uint64_t addressed          # messages to rooms that the reader is interested in
    uint64_t uncertain          # messages to rooms that it may be interested in
    uint64_t others             # OPAQUE records
    uint64_t since, until       # milliseconds of the monotonic clock

# What a START says, behind its header.
cdef struct Beginning:
    uint64_t incarnation        # a number that the process has made up
    uint64_t plain, addressed   # the last of each sequence that was sent before

cdef struct Record:
    Header header
    const char* addresses
    const char* key
    const char* payload
    size_t payload_size

cdef struct Address:
    const char* name
    uint32_t size               # bytes
    bint of_user
    const char* whole           # the bytes of the record that say all of this; `size` and 4 more


cdef int read_record(const char* data, size_t size, Record* record) except -1
cdef bint next_address(const Record* record, const char** at, Address* address) except -1
cdef tuple addresses_of(const Record* record)
cdef object key_of(const Record* record)
cdef bint is_loss(const Loss* loss) noexcept
cdef void add_loss(Loss* loss, const Loss* more) noexcept
cdef int read_loss(const Record* record, Loss* loss) except -1
cdef int read_beginning(const Record* record, Beginning* beginning) except -1

cdef void begin_header(Header* header, Kind kind, uint32_t origin) noexcept
cdef bytes measure(Header* header, const Message* message)
cdef void write(char* target, const Header* header, const Message* message, bytes key) noexcept
cdef bytes packed(Header* header, const void* payload, size_t size, tuple addresses)
