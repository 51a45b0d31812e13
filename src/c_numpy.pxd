# What the core uses of numpy's C-API. numpy's own declarations take Cython half a second, and need numpy.

cdef extern from "numpy_api.h":
    ctypedef Py_ssize_t npy_intp

    ctypedef class numpy.dtype [object PyArray_Descr, check_size ignore]:
        pass

    ctypedef class numpy.ndarray [object PyArrayObject, check_size ignore]:
        pass

    enum:
        NPY_INT64
        NPY_UINT64
        NPY_ARRAY_F_CONTIGUOUS
        NPY_ARRAY_CARRAY
        NPY_ARRAY_CARRAY_RO
        NPY_ARRAY_WRITEABLE

    ctypedef enum NPY_CASTING:
        pass

    int import_numpy "shmring_import_numpy"() except -1
    dtype PyArray_DescrFromType(int type_number)
    bint PyArray_CheckExact(object value)
    ndarray PyArray_NewFromDescr(
        type subtype, dtype descr, int nd, npy_intp *dims, npy_intp *strides, void *data, int flags,
        object obj)
    int PyArray_SetBaseObject(ndarray array, object base) except -1
    bint PyArray_EquivTypes(dtype one, dtype other) noexcept
    void *PyArray_DATA(ndarray array) noexcept
    int PyArray_NDIM(ndarray array) noexcept
    npy_intp PyArray_DIM(ndarray array, int axis) noexcept
    npy_intp PyArray_STRIDE(ndarray array, int axis) noexcept
    int PyArray_FLAGS(ndarray array) noexcept
    void *PyArray_DESCR(ndarray array) noexcept  # borrowed
    void *PyArray_BASE(ndarray array) noexcept  # borrowed
    bint PyArray_IS_C_CONTIGUOUS(ndarray array) noexcept
    void PyArray_CLEARFLAGS(ndarray array, int flags) noexcept
    void set_data "shmring_set_data"(ndarray array, void *data) noexcept
    void set_base "shmring_set_base"(ndarray array, object base) noexcept
    bint has_weak_references "shmring_has_weak_references"(ndarray array) noexcept
    int PyArray_CastingConverter(object given, NPY_CASTING *casting) except 0
    bint PyArray_CanCastTypeTo(dtype given, dtype wanted, NPY_CASTING casting)
