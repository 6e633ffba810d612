# Text for the modules that cimport it: decoder.pyx has the one copy of the kernel, chosen at its import.

from libc.stdint cimport uint8_t

cdef object decode_text(const uint8_t* data, size_t size, size_t* fault)
cdef str decode_valid_text(const uint8_t* data, size_t size)
