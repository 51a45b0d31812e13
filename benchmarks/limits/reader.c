/* Reads every byte of a frame for a consumer in Python, with the loop of the limits' consumers: so rings are
 * compared, and not loops. A shared library, called with the GIL held. */
#include <Python.h>

#include "common.h"

uint64_t
sum_frame(PyObject *frame)
{
    Py_buffer buffer;
    if (PyObject_GetBuffer(frame, &buffer, PyBUF_SIMPLE) != 0)
        return 0; /* ctypes raises the error */
    const uint64_t sum = sum_words(buffer.buf, (size_t)buffer.len / sizeof sum);
    PyBuffer_Release(&buffer);
    return sum;
}
