/* SPDX-License-Identifier: Apache-2.0
 *
 * How new objects are cleared. For their sizes gcc writes `rep stos`, which takes most processors longer to
 * begin than the C library's memset takes. It does so only where it knows the size.
 */
#ifndef SHMRING_CLEAR_H
#define SHMRING_CLEAR_H

#include <string.h>

static inline void *
shmring_memset(void *target, int value, size_t bytes)
{
    __asm__("" : "+r"(bytes)); /* now it does not */
    return memset(target, value, bytes);
}

#define memset shmring_memset

#endif /* SHMRING_CLEAR_H */
