# Arguments that the application passes; see arguments.pyx.

from crest.cpython cimport PyUnicode_AsUTF8AndSize, PyUnicode_DATA, PyUnicode_GET_LENGTH, PyUnicode_IS_COMPACT_ASCII


cdef str as_text(str method, object text)
cdef bytes as_bytes(str method, object data)


cdef inline const char* utf8_of(object text, Py_ssize_t* size) except NULL:
    """Return the UTF-8 of an exact `str`, in memory that the `str` owns."""
    if PyUnicode_IS_COMPACT_ASCII(text):
        size[0] = PyUnicode_GET_LENGTH(text)
        return <const char*>PyUnicode_DATA(text)
    return PyUnicode_AsUTF8AndSize(text, size)
