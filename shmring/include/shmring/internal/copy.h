/* SPDX-License-Identifier: Apache-2.0
 *
 * Copying a frame into its slot. memcpy keeps the frame in the cache, where the consumer finds it;
 * streaming stores go past the cache and pay where the ring does not fit in it anyway.
 */
#ifndef SHMRING_INTERNAL_COPY_H
#define SHMRING_INTERNAL_COPY_H

#include "platform.h"

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

/* Bytes of the last-level cache that a core shares. Asks the kernel first, because sysconf may report that of
 * the whole socket. A guess where the machine does not say. */
static inline uint64_t
shmring_cache_bytes(void)
{
    char path[64];
    char text[32];
    for (int level = 3; level >= 2; level--) {
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", level);
        const int fd = open(path, O_RDONLY | O_CLOEXEC);
        const ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
        if (fd >= 0)
            close(fd);
        if (length <= 0)
            continue;
        text[length] = 0;
        char *unit = text;
        const uint64_t size = strtoull(text, &unit, 10);
        if (size != 0)
            return *unit == 'M' ? size << 20 : size << 10;
    }
    return UINT64_C(32) << 20;
}

/* The target is 64-byte aligned, as every slot is. SSE2 belongs to x86-64, so no run-time check. */
static inline void
shmring_copy_streaming(void *target, const void *source, size_t bytes)
{
#if defined(__x86_64__)
    uint8_t *to = (uint8_t *)target;
    const uint8_t *from = (const uint8_t *)source;
    const size_t lines = bytes / 64;
    for (size_t line = 0; line < lines; line++, to += 64, from += 64) {
        const __m128i a = _mm_loadu_si128((const __m128i *)(const void *)from);
        const __m128i b = _mm_loadu_si128((const __m128i *)(const void *)(from + 16));
        const __m128i c = _mm_loadu_si128((const __m128i *)(const void *)(from + 32));
        const __m128i d = _mm_loadu_si128((const __m128i *)(const void *)(from + 48));
        _mm_stream_si128((__m128i *)(void *)to, a);
        _mm_stream_si128((__m128i *)(void *)(to + 16), b);
        _mm_stream_si128((__m128i *)(void *)(to + 32), c);
        _mm_stream_si128((__m128i *)(void *)(to + 48), d);
    }
    memcpy(to, from, bytes % 64);
    _mm_sfence(); /* a release store does not order streaming stores on x86 */
#else
    memcpy(target, source, bytes);
#endif
}

#endif /* SHMRING_INTERNAL_COPY_H */
