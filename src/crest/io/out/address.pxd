# Arguments that name connections; see address.pyx.

cdef class UserRoom:
    cdef readonly str name


cdef str room_name(str method, room)
cdef object as_address(room)
cdef tuple as_addresses(to)
cdef tuple as_excluded(exclude)
