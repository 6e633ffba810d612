# What crest calls in CPython that Cython's declarations lack, or declare with checks and references that cost too much.

from cpython.object cimport PyObject, PyTypeObject


cdef extern from "Python.h":
    void* PyThreadState_Get() noexcept

    # ---- References and the garbage collector
    Py_ssize_t Py_REFCNT(PyObject* o) noexcept
    void PyObject_GC_Track(object o)
    void PyObject_GC_UnTrack(object o)
    bint PyObject_GC_IsTracked(object o)

    # ---- Text
    bint PyUnicode_Check(object text) noexcept
    bint PyUnicode_CheckExact(object text) noexcept
    bint PyUnicode_IS_ASCII(object text) noexcept
    bint PyUnicode_IS_COMPACT_ASCII(object text) noexcept
    int PyUnicode_KIND(object text) noexcept
    Py_ssize_t PyUnicode_GET_LENGTH(object text) noexcept
    void* PyUnicode_DATA(object text) noexcept
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
    object PyUnicode_New(Py_ssize_t size, Py_UCS4 maxchar)
    object PyUnicode_FromObject(object text)    # exact, whatever the subclass says
    int PyUnicode_Resize(PyObject** text, Py_ssize_t length) except -1

    # ---- Bytes
    PyObject* PyBytes_FromStringAndSize(const char* data, Py_ssize_t size) except NULL
    int _PyBytes_Resize(PyObject** data, Py_ssize_t size) except -1
    char* PyByteArray_AS_STRING(bytearray data) noexcept
    object PyMemoryView_FromMemory(char* memory, Py_ssize_t size, int flags)
    const int PyBUF_READ, PyBUF_WRITE

    # ---- Lists
    ctypedef struct PyListObject:
        PyObject** ob_item
    Py_ssize_t PyList_GET_SIZE(list items) noexcept nogil
    void Py_SET_SIZE(list items, Py_ssize_t size) noexcept

    # ---- Contexts and methods
    object PyContext_CopyCurrent()
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1
    ctypedef struct PyMethodDef:
        void* ml_meth
        int ml_flags
    ctypedef struct PyMethodDescrObject:
        PyMethodDef* d_method
    object PyDescr_NewMethod(PyTypeObject* type, PyMethodDef* method)
    const int METH_FASTCALL, METH_KEYWORDS
    # Called directly: this neither checks the callee's type nor keeps exceptions at hand, which is a third of a call.
    PyObject* PyObject_Vectorcall(PyObject* callee, PyObject** arguments, size_t count, PyObject* names) noexcept


cdef extern from *:
    """
    #define crest_owned(object) (object)
    #define CREST_ASCII sizeof(PyASCIIObject)
    #define CREST_UNICODE sizeof(PyCompactUnicodeObject)
    #define CREST_BYTES (offsetof(PyBytesObject, ob_sval) + 1)
    """
    # Take over the new reference that a C function returned; NULL raises the exception that the function has set.
    object owned "crest_owned"(PyObject* returned)
    const size_t CREST_ASCII, CREST_UNICODE, CREST_BYTES    # bytes of an empty `str` or `bytes`, without its NUL
