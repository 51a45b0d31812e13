# What a frame looks like.

@cython.final
@cython.no_gc
cdef class Schema:
    """The format of a ring's frames, ready for numpy's C-API."""

    cdef readonly cnp.dtype dtype
    cdef readonly tuple shape
    cdef readonly cnp.dtype meta_dtype
    cdef readonly bint variable_rows
    cdef object survives_buffers  # None: not asked yet
    cdef object packer  # of metas; None: not needed yet
    cdef int ndim
    cdef cnp.npy_intp dims[64]
    cdef cnp.npy_intp strides[64]
    cdef size_t frame_bytes
    cdef size_t row_bytes
    cdef size_t meta_bytes
    cdef readonly object frame_format

    def __cinit__(self, frame_format):
        self.frame_format = frame_format
        self.dtype, self.shape = frame_format.dtype, frame_format.shape
        self.meta_dtype, self.variable_rows = frame_format.meta_dtype, frame_format.variable_rows
        self.ndim = len(self.shape)
        if self.ndim > 31:
            raise ValueError(f"a frame has at most 31 dimensions, not {self.ndim}")
        step = self.dtype.itemsize
        for i in reversed(range(self.ndim)):
            self.dims[i], self.strides[i] = self.shape[i], step
            step *= self.dims[i]
        self.frame_bytes, self.row_bytes = frame_format.frame_bytes, frame_format.row_bytes
        self.meta_bytes = frame_format.meta_bytes

    cdef bint exports_buffers(self) except -1:
        if self.survives_buffers is None:
            self.survives_buffers = _arrays.survives_buffers(self.dtype)
        return self.survives_buffers

    cdef object meta_packer(self):
        if self.packer is None:
            from shmring import _meta
            self.packer = _meta.Packer(self.meta_dtype)
        return self.packer

    cdef cnp.ndarray frame_array(self, void *data, uint64_t rows, object base, bint writable):
        """One frame as an ndarray on memory that `base` keeps."""
        cdef cnp.npy_intp dims[64]
        cdef int flags = cnp.NPY_ARRAY_CARRAY if writable else cnp.NPY_ARRAY_CARRAY_RO
        cdef cnp.npy_intp *shape = self.dims
        if self.variable_rows:
            memcpy(dims, self.dims, sizeof(cnp.npy_intp) * self.ndim)
            dims[0] = <cnp.npy_intp>rows
            shape = dims
        Py_INCREF(self.dtype)
        array = cnp.PyArray_NewFromDescr(cnp.ndarray, self.dtype, self.ndim, shape, NULL, data, flags, None)
        if base is not None:
            Py_INCREF(base)
            cnp.set_base(array, base)
        return array

    cdef bint is_as_made(self, cnp.ndarray array) noexcept:
        """Whether an array is as `frame_array` makes it, read-only, and no weak reference is on it."""
        cdef int expected = cnp.NPY_ARRAY_CARRAY_RO | cnp.NPY_ARRAY_F_CONTIGUOUS  # of one axis it is both
        cdef int i
        if (cnp.PyArray_DESCR(array) != <void *>self.dtype or not self.has_shape(array, 0)
                or (cnp.PyArray_FLAGS(array) | cnp.NPY_ARRAY_F_CONTIGUOUS) != expected
                or cnp.has_weak_references(array)):
            return False
        for i in range(self.ndim):
            if cnp.PyArray_STRIDE(array, i) != self.strides[i]:
                return False
        return True

    cdef cnp.ndarray batch_array(self, void *data, uint64_t count, uint64_t stride, object base,
                                 bint writable):
        """Adjacent frames as one ndarray."""
        cdef cnp.npy_intp dims[64]
        cdef cnp.npy_intp strides[64]
        cdef int flags = cnp.NPY_ARRAY_CARRAY if writable else cnp.NPY_ARRAY_CARRAY_RO
        dims[0], strides[0] = <cnp.npy_intp>count, <cnp.npy_intp>stride
        memcpy(dims + 1, self.dims, sizeof(cnp.npy_intp) * self.ndim)
        memcpy(strides + 1, self.strides, sizeof(cnp.npy_intp) * self.ndim)
        Py_INCREF(self.dtype)
        array = cnp.PyArray_NewFromDescr(
            cnp.ndarray, self.dtype, self.ndim + 1, dims, strides, data, flags, None)
        Py_INCREF(base)
        cnp.PyArray_SetBaseObject(array, base)
        return array

    cdef inline bint fits(self, cnp.ndarray array, int lead) noexcept:
        """Whether an array has exactly the frames' dtype and shape, after `lead` leading axes."""
        cdef void *dtype = cnp.PyArray_DESCR(array)
        if dtype != <void *>self.dtype and not cnp.PyArray_EquivTypes(<cnp.dtype>dtype, self.dtype):
            return False
        return self.has_shape(array, lead)

    cdef inline bint has_shape(self, cnp.ndarray array, int lead) noexcept:
        """Whether an array has the frames' shape, after `lead` leading axes."""
        cdef int i
        if cnp.PyArray_NDIM(array) != self.ndim + lead:
            return False
        for i in range(self.ndim):
            if cnp.PyArray_DIM(array, i + lead) != self.dims[i]:
                if i != 0 or not self.variable_rows or cnp.PyArray_DIM(array, lead) > self.dims[0]:
                    return False
        return True
