# What a consumer's iterations remember.

@cython.final
@cython.no_gc
cdef class Frames:
    """Iterates over frames with a timeout: from ``Consumer.iter()``."""

    cdef Consumer consumer
    cdef object timeout

    def __init__(self, *_args, **_options):
        raise TypeError("Frames come from Consumer.iter()")

    def __iter__(self):
        return self

    def __next__(self):
        return self.consumer.next_frame(self.timeout)

    def __aiter__(self):
        return self

    def __anext__(self):
        from shmring import _aio
        return _aio.following(self.consumer, self.timeout)


@cython.final
@cython.no_gc
cdef class Windows:
    """Iterates over windows of frames: from ``Consumer.windows()``."""

    cdef Consumer consumer
    cdef uint64_t length
    cdef uint64_t step

    def __init__(self, *_args, **_options):
        raise TypeError("Windows come from Consumer.windows()")

    def __iter__(self):
        return self

    def __next__(self):
        cdef Consumer consumer = self.consumer
        cdef Batch batch = None if consumer is None else consumer.next_window(self.length, self.step)
        if batch is None:
            self.consumer = None  # once ended, an iteration stays ended
            raise StopIteration
        return batch
