# Arguments: checked, and converted for C.

cdef object ONE = 1


cdef inline uint64_t count_of(object n, str what, uint64_t most) except 0:
    """A number of frames, at least 1, cut to `most`."""
    return 1 if n is ONE else checked_count(n, what, most)


cdef uint64_t checked_count(object n, str what, uint64_t most) except 0:
    cdef int overflow
    cdef long long value
    if PyLong_CheckExact(n):  # nearly always; objects compare slowly
        value = PyLong_AsLongLongAndOverflow(n, &overflow)
        if value >= 1 and overflow == 0:
            return most if <uint64_t>value > most else <uint64_t>value
    elif isinstance(n, bool) or not isinstance(n, (int, np.integer)):
        raise TypeError(f"{what} must be an int, not {type(n).__name__}")
    if n < 1:
        raise ValueError(f"{what} must be at least 1, not {n}")
    return most if n > most else n


cdef inline bint is_plain_number(object value) noexcept:
    """Whether a value is a float or an int of Python's own, as nearly always."""
    return PyFloat_CheckExact(value) or PyLong_CheckExact(value)


cdef double seconds_of(str what, object value) except -1:
    cdef double seconds
    try:
        if not is_plain_number(value) and isinstance(value, (bool, np.bool_)):
            raise TypeError
        seconds = value
    except TypeError:
        raise TypeError(f"{what} must be None or seconds >= 0, not {value!r}") from None
    if not seconds >= 0:
        raise ValueError(f"{what} must be None or seconds >= 0, not {value!r}")
    return seconds


def check_timeout(timeout):
    """Raise unless `timeout` is valid."""
    deadline_of(timeout)


def check_flag(str what, value):
    """Return a flag as bool; TypeError for anything but a bool."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{what} must be True or False, not {value!r}")
    return bool(value)


def check_word(str what, value, words):
    """Return a value that is one of the words; TypeError or ValueError, with all of them, if it is not."""
    if isinstance(value, str) and value in words:
        return value
    *others, last = [f'"{word}"' for word in words]
    error = ValueError if isinstance(value, str) else TypeError
    raise error(f"{what} must be {', '.join(others)} or {last}, not {value!r}")


cdef object whole_of(str what, object value, object least, object most):
    """A whole number in a range, as an int."""
    try:
        number = index(value)
    except TypeError:
        raise TypeError(f"{what} must be an int, not {value!r}") from None
    if not least <= number <= most:
        raise ValueError(f"{what} must be {least} to {most}, not {number}")
    return number


cdef int64_t timestamp_of(object value) except? -1:
    """A timestamp that was given."""
    cdef int64_t when
    try:
        when = index(value)
    except TypeError:
        raise TypeError(f"timestamp_ns is a whole number of nanoseconds, not {value!r}") from None
    except OverflowError:
        raise OverflowError(
            f"timestamp_ns must fit into 64 bits with a sign, -2**63 to 2**63 - 1, not {value!r}") from None
    return when


cdef inline cnp.ndarray plain_array(object given):
    """What was given as an array, without a copy where that can be."""
    return <cnp.ndarray>given if cnp.PyArray_CheckExact(given) else array_of(given)


cdef cnp.ndarray array_of(object given):
    """What is no plain array as one; what is masked is refused."""
    if isinstance(given, cnp.ndarray) and not isinstance(given, np.ma.MaskedArray):
        return given
    from shmring import _meta
    _meta.refuse_masked(given)
    return np.asarray(given)


cdef int check_castable(Schema schema, cnp.ndarray source, object casting, int lead) except -1:
    """Refuses another shape, whatever the casting, and another dtype unless that may be cast."""
    cdef cnp.NPY_CASTING allowed
    cnp.PyArray_CastingConverter(casting, &allowed)
    cdef cnp.dtype given = <cnp.dtype>cnp.PyArray_DESCR(source)
    if not cnp.PyArray_CanCastTypeTo(given, schema.dtype, allowed) or not schema.has_shape(source, lead):
        raise _messages.wrong_array(source, schema.frame_format, lead == 1)
    return 0


cdef uint64_t rows_of(Schema schema, object rows) except? 0:
    """A valid length of a frame's first axis."""
    if not schema.variable_rows:
        raise ValueError("this ring has frames of fixed length; create it with variable_rows=True")
    return whole_of("rows", rows, 0, schema.dims[0])


cdef bytes meta_bytes_of(Schema schema, object meta, uint64_t count, bint single):
    """Bytes of the meta of one frame, or of the metas of `count` frames."""
    if schema.meta_dtype is None:
        raise ValueError("this ring carries no meta; create it with meta=<dtype>")
    packer = schema.meta_packer()
    return packer.one(meta) if single else packer.many(meta, count)
