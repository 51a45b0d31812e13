/* SPDX-License-Identifier: Apache-2.0
 *
 * What the core uses of numpy's C-API. numpy's binary interface fixes the head of an array and the place of
 * each function in a table that numpy hands out at run time. With the few of them declared here, a build
 * needs no numpy, which pip would unpack a second time for it. tests/text/test_numpy_api.py compares with
 * numpy's own headers.
 */
#ifndef SHMRING_NUMPY_API_H
#define SHMRING_NUMPY_API_H

#include <Python.h>

typedef Py_ssize_t npy_intp;
typedef int NPY_CASTING;

typedef struct {
    PyObject_HEAD
} PyArray_Descr; /* its head, like the next: there is more after it */

typedef struct {
    PyObject_HEAD char *data;
    int nd;
    npy_intp *dimensions;
    npy_intp *strides;
    PyObject *base;
    PyArray_Descr *descr;
    int flags;
    PyObject *weakreflist;
} PyArrayObject;

#define NPY_INT64 (sizeof(long) == 8 ? 7 : 9)
#define NPY_UINT64 (sizeof(long) == 8 ? 8 : 10)

#define NPY_ARRAY_C_CONTIGUOUS 0x0001
#define NPY_ARRAY_F_CONTIGUOUS 0x0002
#define NPY_ARRAY_ALIGNED 0x0100
#define NPY_ARRAY_WRITEABLE 0x0400
#define NPY_ARRAY_CARRAY_RO (NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_ALIGNED)
#define NPY_ARRAY_CARRAY (NPY_ARRAY_CARRAY_RO | NPY_ARRAY_WRITEABLE)

#define PyArray_DATA(array) ((void *)(array)->data)
#define PyArray_NDIM(array) ((array)->nd)
#define PyArray_DIM(array, axis) ((array)->dimensions[axis])
#define PyArray_STRIDE(array, axis) ((array)->strides[axis])
#define PyArray_DESCR(array) ((array)->descr)
#define PyArray_BASE(array) ((array)->base)
#define PyArray_FLAGS(array) ((array)->flags)
#define PyArray_IS_C_CONTIGUOUS(array) (((array)->flags & NPY_ARRAY_C_CONTIGUOUS) != 0)
#define PyArray_CLEARFLAGS(array, unwanted) ((void)((array)->flags &= ~(unwanted)))

static inline void
shmring_set_data(PyArrayObject *array, void *data)
{
    array->data = (char *)data;
}

/* Of a new array, which had none. PyArray_SetBaseObject looks for arrays among the bases of the base. */
static inline void
shmring_set_base(PyArrayObject *array, PyObject *base)
{
    array->base = base;
}

static inline int
shmring_has_weak_references(const PyArrayObject *array)
{
    return array->weakreflist != NULL;
}

static void **PyArray_API;

#define PyArray_GetNDArrayCVersion (*(unsigned int (*)(void))PyArray_API[0])
#define PyArray_Type (*(PyTypeObject *)PyArray_API[2])
#define PyArray_CheckExact(object) (Py_TYPE((PyObject *)(object)) == &PyArray_Type)
#define PyArray_DescrFromType (*(PyArray_Descr * (*)(int)) PyArray_API[45])
#define PyArray_NewFromDescr \
    (*(PyObject * (*)(PyTypeObject *, PyArray_Descr *, int, npy_intp const *, npy_intp const *, void *, int, \
                      PyObject *)) PyArray_API[94])
#define PyArray_EquivTypes (*(unsigned char (*)(PyArray_Descr *, PyArray_Descr *))PyArray_API[182])
#define PyArray_CanCastTypeTo \
    (*(unsigned char (*)(PyArray_Descr *, PyArray_Descr *, NPY_CASTING))PyArray_API[275])
#define PyArray_SetBaseObject (*(int (*)(PyArrayObject *, PyObject *))PyArray_API[282])
#define PyArray_CastingConverter (*(int (*)(PyObject *, NPY_CASTING *))PyArray_API[269])

/* Gets numpy's table of functions. Returns 0, or -1 with an exception set. */
static inline int
shmring_import_numpy(void)
{
    PyObject *module = PyImport_ImportModule("numpy._core._multiarray_umath");
    if (module == NULL)
        return -1;
    PyObject *table = PyObject_GetAttrString(module, "_ARRAY_API");
    Py_DECREF(module);
    if (table == NULL)
        return -1;
    PyArray_API = (void **)PyCapsule_GetPointer(table, NULL);
    Py_DECREF(table); /* numpy keeps it */
    if (PyArray_API == NULL)
        return -1;
    unsigned int version = PyArray_GetNDArrayCVersion();
    if (version >> 24 != 2) {
        PyErr_Format(
            PyExc_ImportError,
            "this numpy has version 0x%x of its binary interface, and shmring is made for 0x2000000, that of "
            "numpy 2; install a numpy 2, or a shmring for this one",
            version);
        return -1;
    }
    return 0;
}

#endif /* SHMRING_NUMPY_API_H */
