# What the helper thread of an event loop sleeps on.

@cython.final
@cython.no_gc
cdef class Doorbell:
    """Wakes a thread out of `wait_any`."""

    cdef uint32_t word

    def prepare(self):
        """Return a token for `wait_any`: a ring after this call ends that wait."""
        return shmring_event_prepare(&self.word)

    def ring(self):
        shmring_event_announce(&self.word)


def wait_any(Doorbell bell, uint32_t token, list awaited, double seconds):
    """Sleep until one of the awaited (block, head, producer state) comes true, the bell or the time.

    May wake for no reason. At most 127 are watched; the caller looks at all of them afterwards.
    """
    cdef uint32_t *words[128]
    cdef uint32_t values[128]
    cdef unsigned count = 1
    cdef int64_t deadline = shmring_now_ns() + <int64_t>(seconds * 1e9)
    cdef Block block
    words[0], values[0] = &bell.word, token
    for block, _head, _state in awaited[:127]:
        words[count] = &block.view.hot.data_event
        values[count] = shmring_event_prepare(words[count])
        count += 1
    for block, head, state in awaited:
        if came_true(block, head, state):
            return
    with nogil:
        shmring_futex_wait_any(words, values, count, deadline)


def came_true(Block block, uint64_t head, uint32_t state):
    """Whether the frame is there or the producer's state changed."""
    return bool(shmring_read_head(&block.view) >= head or shmring_read_producer_state(&block.view) != state)
