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


@cython.final
@cython.no_gc
cdef class Awaited:
    """What a consumer sleeps on: from ``Consumer._awaited()``."""

    cdef Block block  # where the news points to
    cdef shmring_news news

    def came_true(self):
        """Whether it is worth a look now: a frame is there, or the producer's state changed."""
        return shmring_is_news(&self.block.view, &self.news)


def wait_any(Doorbell bell, uint32_t token, list awaited, double seconds):
    """Sleep until one of those awaited comes true, the bell or the time.

    May wake for no reason. At most 127 are watched; the caller looks at all of them afterwards.
    """
    cdef uint32_t *words[128]
    cdef uint32_t values[128]
    cdef unsigned count = 1
    cdef int64_t deadline = shmring_now_ns() + <int64_t>(seconds * 1e9)
    cdef Awaited one
    words[0], values[0] = &bell.word, token
    for one in awaited[:127]:
        words[count] = &one.block.view.hot.data_event
        values[count] = shmring_event_prepare(words[count])
        count += 1
    for one in awaited:
        if shmring_is_news(&one.block.view, &one.news):
            return
    with nogil:
        shmring_futex_wait_any(words, values, count, deadline)
