/* A driver in C that produces into a ring which a Python program created.
 *
 *     cc -O2 -I "$(python -c 'import shmring; print(shmring.get_include())')" producer.c -o producer
 *     ./producer RING FRAMES
 */
#include <shmring/shmring.h> /* before other headers: it asks for GNU names */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The ring's per-frame meta, as run.py declares it. */
typedef struct settings {
    uint32_t gain;
    uint32_t range;
} settings;

static int
fail(const char *what, int result)
{
    if (result == SHMRING_SYSTEM)
        fprintf(stderr, "producer: %s: %s\n", what, strerror(errno));
    else
        fprintf(stderr, "producer: %s: shmring error %d\n", what, result);
    return 1;
}

static void
produce(shmring_producer *out, uint64_t frames, const shmring_patience *patience)
{
    const uint64_t count = out->block->geometry.frame_bytes / sizeof(int32_t);
    for (uint64_t number = 0; number < frames; number++) {
        shmring_claim_until(out, 1, SHMRING_FOR_EVER, patience);
        int32_t *const samples = (int32_t *)shmring_claimed_slot(out); /* this is the shared memory */
        for (uint64_t i = 0; i < count; i++)
            samples[i] = (int32_t)(number * 1000 + i);
        const settings meta = {(uint32_t)(number % 8), 10};
        shmring_describe(out, 0, shmring_now_ns(), 0, &meta);
        shmring_publish(out, 1);
    }
}

int
main(int argc, char **argv)
{
    shmring_block block;
    static shmring_producer out;
    const shmring_patience patience = shmring_default_patience();
    if (argc != 3) {
        fprintf(stderr, "usage: producer RING FRAMES\n");
        return 2;
    }
    const int fd = shmring_open(argv[1], SHMRING_PRODUCE);
    if (fd < 0)
        return fail(argv[1], SHMRING_SYSTEM);
    int result = shmring_map(&block, fd, SHMRING_PRODUCE);
    if (result != SHMRING_OK)
        return fail("map", result);
    if (block.geometry.meta_bytes != sizeof(settings)) {
        fprintf(stderr, "producer: the ring's meta is not what this program writes\n");
        return 1;
    }
    const int lock_fd = shmring_reopen(fd, 1); /* a description of its own, never mapped */
    close(fd);
    if (lock_fd < 0)
        return fail("lock", SHMRING_SYSTEM);
    result = shmring_producer_open(&out, &block, lock_fd);
    if (result == SHMRING_PRODUCER_EXISTS) {
        fprintf(stderr, "producer: %s has a producer already\n", argv[1]);
        return 1;
    }
    if (result != SHMRING_OK)
        return fail("become the producer", result);
    shmring_await_consumers(&out, 1, SHMRING_FOR_EVER, &patience);
    produce(&out, strtoull(argv[2], NULL, 10), &patience);
    printf("producer.c: %" PRIu64 " frames published, %" PRIu64 " dropped\n", out.head, out.dropped);
    shmring_producer_close(&out); /* end of the stream */
    close(lock_fd);
    shmring_unmap(&block);
    return 0;
}
