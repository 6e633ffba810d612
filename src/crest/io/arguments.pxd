# Arguments that the application passes; see arguments.pyx.

cdef extern from "Python.h":
    bint PyUnicode_CheckExact(object text) noexcept
    bint PyUnicode_IS_COMPACT_ASCII(object text) noexcept
    Py_ssize_t PyUnicode_GET_LENGTH(object text) noexcept
    void* PyUnicode_DATA(object text) noexcept
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL


cdef str as_text(str method, object text)
cdef bytes as_bytes(str method, object data)


cdef inline const char* utf8_of(object text, Py_ssize_t* size) except NULL:
    """Return the UTF-8 of an exact `str`, in memory that the `str` owns."""
    if PyUnicode_IS_COMPACT_ASCII(text):
        size[0] = PyUnicode_GET_LENGTH(text)
        return <const char*>PyUnicode_DATA(text)
    return PyUnicode_AsUTF8AndSize(text, size)
