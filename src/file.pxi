# The file of a ring: opened, named, locked and read by its descriptor.

cdef object refused(int number, str what):
    """The error for something that the kernel refused."""
    return _limits.refused(number, what)


def open_block(str name, int access):
    """Return a descriptor of the block of that name; OSError if there is none."""
    cdef int fd = shmring_open(os.fsencode(name), access)
    if fd < 0:
        raise refused(errno, f"cannot open ring {name!r}")
    return fd


def watch_names(str folder):
    """Return a descriptor that is readable once a file in the folder gets a name; -1 if there can be none."""
    cdef bytes path = os.fsencode(folder)
    cdef int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK)
    if fd >= 0 and inotify_add_watch(fd, path, IN_CREATE | IN_MOVED_TO) < 0:
        close_fd(fd)
        fd = -1
    return fd


def reopen(int fd, bint writable):
    """Return a new open file description of the file behind fd, with no locks and no mapping."""
    cdef int copy = shmring_reopen(fd, writable)
    if copy < 0:
        raise cannot_reopen(fd, errno)
    return copy


cdef object cannot_reopen(int fd, int number):
    if number == EACCES:
        return _messages.cannot_reopen(fd)
    return refused(number, "cannot reopen a ring's file")


def link(int fd, str path):
    """Give the nameless file behind fd a name; FileExistsError if it is taken."""
    if shmring_link(fd, os.fsencode(path)) != 0:
        raise refused(errno, f"cannot give a ring the name {path!r}")


def lock(int fd, int64_t byte, int type, int64_t length=1):
    """Take or drop this description's lock on bytes; False if another one is there."""
    return bool(shmring_set_span_lock(fd, byte, length, type))


@cython.final
@cython.no_gc
cdef class LockFile:
    """A descriptor for locks: of a description of its own, never mapped, and closed in forked children.

    It is closed with its last reference. For locks that a child must not keep alive, whenever it is forked.
    """

    cdef shmring_own_fd own

    def __cinit__(self, int fd):
        """Reopen the file behind fd; OSError if that is not possible."""
        if shmring_own_open(&self.own, fd) < 0:
            raise cannot_reopen(fd, errno)

    def __dealloc__(self):
        shmring_own_close(&self.own)

    def close(self):
        """Close it, which drops its locks. May be called twice."""
        shmring_own_close(&self.own)

    @property
    def fd(self):
        """The descriptor, -1 once it is closed."""
        return self.own.fd


def lock_held(int fd, int64_t byte, int64_t length=1):
    """Return whether another description, open for writing, holds a lock on one of the bytes."""
    return bool(shmring_span_held(fd, byte, length))


def lock_blocked(int fd, int64_t byte):
    """Return whether a shared lock, for which read permission is enough, keeps us from a byte."""
    return bool(shmring_lock_blocked(fd, byte))


def lock_place(unsigned place):
    """Return the byte whose lock means owning a place of the consumer table."""
    return SHMRING_LOCK_PLACE(place)
