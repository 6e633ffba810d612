"""A client's frames (RFC 6455 sections 5.3 and 10.3): message to bytes, masked. Sans-I/O.

`Masker` owns masking keys that are not used yet, and draws them from the system's entropy, many at a time. A key is
used once. No application can then choose bytes that stand on the wire as they are, where intermediaries might take them
for HTTP. Reading is frames.pyx's, for both sides.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

from crest.kernels.mask cimport crest_mask_init, crest_unmask
from crest.wire.frames cimport MAX_CLIENT_HEADER

from secrets import token_bytes

crest_mask_init()

cdef size_t BATCH = 1024        # bytes of entropy that are drawn at once: a system call for 256 keys


@cython.final
cdef class Masker:
    """Makes frames, each masked with a key of its own. A process that forks must not go on with it on both sides: both
    would use the same keys.

    Args:
        entropy: returns so many bytes that no peer can predict; others than the system's are for tests.
    """

    def __cinit__(self, entropy=token_bytes):
        self.entropy = entropy
        self.batch = b""

    def serialize(self, uint8_t opcode, const uint8_t[::1] payload not None):
        """Make one final, masked frame of an `Opcode`, perhaps with RSV1, and a bytes-like payload."""
        return self.frame(opcode, &payload[0] if payload.shape[0] else NULL, payload.shape[0])

    cdef bytes frame(self, uint8_t opcode, const uint8_t* payload, size_t size):
        """Return what `serialize` does."""
        cdef uint8_t header[MAX_CLIENT_HEADER]
        cdef uint8_t key[KEY_SIZE]
        cdef size_t n
        cdef uint8_t* out
        self.next_key(key)
        n = write_masked_header(header, opcode, size, key)
        made = PyBytes_FromStringAndSize(NULL, n + size)
        out = <uint8_t*>PyBytes_AS_STRING(made)
        memcpy(out, header, n)
        if size:
            crest_unmask(out + n, payload, size, key, 0)  # masking is the same operation (section 5.3)
        return made

    cdef int next_key(self, uint8_t* key) except -1:
        """Write a masking key that was never used, and never will be."""
        if self.at == <size_t>len(self.batch):
            self.batch = b""  # if there is no entropy, there is no key
            self.at = 0
            batch = self.entropy(BATCH)
            if type(batch) is not bytes or <size_t>len(batch) != BATCH:
                raise ValueError(f"entropy must be {BATCH} bytes")
            self.batch = batch
        memcpy(key, PyBytes_AS_STRING(self.batch) + self.at, KEY_SIZE)
        self.at += KEY_SIZE
        return 0
