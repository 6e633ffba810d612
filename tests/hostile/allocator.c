/* Memory that runs out when the test says so: a Python module that stands in all three of CPython's allocator domains.

   run(callable, *args) calls with the allocator armed, in the calling thread: the allocations are counted from 0, and
   those from `first` to `first + count - 1` fail, as fail(first, count) has said. Counting goes on from one run to the
   next. pause() disarms within a run, for what must not need memory, and resume() arms again. Where the first allocation
   failed stands on stderr, as addresses in the modules. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#ifdef __GLIBC__
#include <execinfo.h>
#include <unistd.h>
#endif

enum { DOMAINS = 3, FRAMES = 40 };

static PyMemAllocatorEx before[DOMAINS];
static _Thread_local int armed, within;
static Py_ssize_t counted, failed, first_to_fail, last_to_fail = -1;

static void tell(void)
{
#ifdef __GLIBC__
    static const char line[] = "failed allocation:\n";
    void *frames[FRAMES];
    int count = backtrace(frames, FRAMES);
    if (write(STDERR_FILENO, line, sizeof line - 1) > 0)
        backtrace_symbols_fd(frames, count, STDERR_FILENO);
#endif
}

static int fails(void)
{
    if (!armed)
        return 0;
    Py_ssize_t number = counted++;
    if (number < first_to_fail || number > last_to_fail)
        return 0;
    if (failed++ == 0)
        tell();
    return 1;
}

static void *hostile_malloc(void *domain, size_t size)
{
    PyMemAllocatorEx *own = domain;
    return fails() ? NULL : own->malloc(own->ctx, size);
}

static void *hostile_calloc(void *domain, size_t count, size_t size)
{
    PyMemAllocatorEx *own = domain;
    return fails() ? NULL : own->calloc(own->ctx, count, size);
}

static void *hostile_realloc(void *domain, void *memory, size_t size)
{
    PyMemAllocatorEx *own = domain;
    return fails() ? NULL : own->realloc(own->ctx, memory, size);
}

static void hostile_free(void *domain, void *memory)
{
    PyMemAllocatorEx *own = domain;
    own->free(own->ctx, memory);
}

static PyObject *fail(PyObject *module, PyObject *args)
{
    Py_ssize_t first, count;
    if (!PyArg_ParseTuple(args, "nn", &first, &count))
        return NULL;
    counted = failed = 0;
    first_to_fail = first;
    last_to_fail = first + count - 1;
    Py_RETURN_NONE;
}

static PyObject *run(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    int outer = armed;
    if (count < 1) {
        PyErr_SetString(PyExc_TypeError, "run() takes a callable");
        return NULL;
    }
    within++;
    armed = 1;
    PyObject *result = PyObject_Vectorcall(args[0], args + 1, (size_t)count - 1, NULL);
    armed = outer;
    within--;
    return result;
}

static PyObject *pause_(PyObject *module, PyObject *unused)
{
    armed = 0;
    Py_RETURN_NONE;
}

static PyObject *resume(PyObject *module, PyObject *unused)
{
    armed = within > 0;
    Py_RETURN_NONE;
}

static PyObject *counts(PyObject *module, PyObject *unused)
{
    return Py_BuildValue("nn", counted, failed);
}

static PyMethodDef methods[] = {
    {"fail", fail, METH_VARARGS, "Have allocations fail: from the first on, so many."},
    {"run", (PyCFunction)(void (*)(void))run, METH_FASTCALL, "Call with the allocator armed; returns what that does."},
    {"pause", pause_, METH_NOARGS, "Disarm, within a run."},
    {"resume", resume, METH_NOARGS, "Arm again, within a run."},
    {"counts", counts, METH_NOARGS, "How many allocations there were, and how many of them failed."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "hostile_allocator", NULL, -1, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit_hostile_allocator(void)
{
    static const PyMemAllocatorDomain domains[DOMAINS] = {
        PYMEM_DOMAIN_RAW, PYMEM_DOMAIN_MEM, PYMEM_DOMAIN_OBJ};
    PyObject *module = PyModule_Create(&definition);
#ifdef __GLIBC__
    void *frame;
    backtrace(&frame, 1); /* loads what it needs, once */
#endif
    for (int i = 0; module != NULL && i < DOMAINS; i++) {
        PyMem_GetAllocator(domains[i], &before[i]);
        PyMemAllocatorEx own = {&before[i], hostile_malloc, hostile_calloc, hostile_realloc, hostile_free};
        PyMem_SetAllocator(domains[i], &own);
    }
    return module;
}
