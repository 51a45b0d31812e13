# Rings whose file is cut while in use.

def survive_truncation():
    """Get RingCorrupt instead of a killed process when the file of a ring is cut while in use.

    A process that may write to a ring's file may also make it shorter. The kernel answers the next touch
    of a lost page with the signal SIGBUS, which ends the process. This installs a handler for that signal, in
    the whole process and for all of its rings, attached before or later. When a lost page is touched, it
    puts zeros in the place of that page and of all that follow it in the file, and the calls of shmring
    raise RingCorrupt from then on.

    Frames that are held read as zeros where their pages are gone, *without* an exception: check that a
    call on the ring still works before you trust what you read. Closing and releasing still work. System
    calls on a lost page (``os.write(fd, frame)``) fail with EFAULT.

    Every other SIGBUS does what it did before: it goes to the handler installed earlier, or ends the process.
    Install other handlers of this signal first, such as ``faulthandler.enable()``. Calling it again does
    nothing. Forked children have the handler too; programs started by exec do not.

    Raises
    ------
    RuntimeError
        Another handler was installed after the first call: the two would pass signals on to each other.
    OSError
        The kernel refused.

    Examples
    --------
    >>> import shmring
    >>> shmring.survive_truncation()
    """
    if not shmring_survive_truncation():
        if errno == EBUSY:
            raise RuntimeError(
                "a handler of SIGBUS was installed over the one of survive_truncation(): install the other "
                "one first (faulthandler.enable(), say), then call survive_truncation()")
        raise OSError(errno, os.strerror(errno))
