/* SPDX-License-Identifier: Apache-2.0
 *
 * A handle's lock. Where the GIL is, it is the lock, and this is nothing. Between lock and unlock no
 * Python code may run and no object may die: either could come back to the same handle.
 */
#ifndef SHMRING_GUARD_H
#define SHMRING_GUARD_H

#include <Python.h>

#ifdef Py_GIL_DISABLED

typedef PyMutex shmring_guard;
#define shmring_guard_lock(guard) PyMutex_Lock(guard)
#define shmring_guard_unlock(guard) PyMutex_Unlock(guard)
#define SHMRING_FREE_THREADED 1

#else

typedef char shmring_guard;
#define shmring_guard_lock(guard) ((void)(guard))
#define shmring_guard_unlock(guard) ((void)(guard))
#define SHMRING_FREE_THREADED 0

#endif

#endif /* SHMRING_GUARD_H */
