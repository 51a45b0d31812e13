/* A driver in C with four buffers: the device writes into the slots of a ring that a Python program created.
 *
 *     cc -O2 -I "$(python -c 'import shmring; print(shmring.get_include())')" driver.c -o driver
 *     ./driver RING PICTURES
 */
#include <shmring/shmring.h> /* before other headers: it asks for GNU names */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUFFERS = 4, DAMAGED = 50 }; /* each so many-th picture is incomplete */

/* ---- the device: it fills the buffers that it was given, in order; here it does so while one waits ---- */

typedef struct device {
    uint8_t *queued[BUFFERS];
    unsigned count;
    size_t bytes;
    uint64_t pictures;
} device;

static void
device_queue(device *d, void *buffer)
{
    d->queued[d->count++] = (uint8_t *)buffer;
}

/* Waits until the buffer that was queued first is full. 0: the picture in it is incomplete. */
static int
device_wait(device *d)
{
    const int complete = d->pictures % DAMAGED != DAMAGED - 1;
    memset(d->queued[0], (int)(d->pictures % 256), complete ? d->bytes : d->bytes / 2);
    d->pictures++;
    d->count--;
    memmove(d->queued, d->queued + 1, d->count * sizeof *d->queued);
    return complete;
}

/* ---- the ring ---- */

static int
fail(const char *what, int result)
{
    if (result == SHMRING_SYSTEM)
        fprintf(stderr, "driver: %s: %s\n", what, strerror(errno));
    else
        fprintf(stderr, "driver: %s: shmring error %d\n", what, result);
    return 1;
}

/* Gives the device as many buffers as there is space for. It waits only if the device has none. */
static void
refill(shmring_producer *out, device *d, const shmring_patience *patience)
{
    if (out->count == 0)
        shmring_claim_until(out, 1, SHMRING_FOR_EVER, patience);
    while (out->count < BUFFERS && shmring_claim_more(out) == SHMRING_OK)
        continue;
    if (out->count < BUFFERS)
        shmring_reap_all(out->block, out->lock_fd); /* for the next time: the dead need no slots */
    while (d->count < out->count)
        device_queue(d, shmring_slot_at(out->block, shmring_claimed_slot_of(out, d->count)));
}

static void
grab(shmring_producer *out, uint64_t pictures, const shmring_patience *patience)
{
    device d = {{NULL}, 0, out->block->geometry.frame_bytes, 0};
    while (d.pictures < pictures) {
        refill(out, &d, patience);
        if (device_wait(&d)) {
            shmring_describe(out, 0, shmring_now_ns(), 0, NULL);
            shmring_publish_oldest(out);
        } else {
            shmring_requeue_oldest(out); /* the device gets it again, behind the others */
            shmring_drop(out, 1);        /* and consumers count it as lost */
        }
    }
    shmring_abort(out); /* the device has stopped: what it has not filled goes back */
}

int
main(int argc, char **argv)
{
    shmring_block block;
    static shmring_producer out;
    const shmring_patience patience = shmring_default_patience();
    if (argc != 3) {
        fprintf(stderr, "usage: driver RING PICTURES\n");
        return 2;
    }
    const int fd = shmring_open(argv[1], SHMRING_PRODUCE);
    if (fd < 0)
        return fail(argv[1], SHMRING_SYSTEM);
    int result = shmring_map(&block, fd, SHMRING_PRODUCE);
    if (result != SHMRING_OK)
        return fail("map", result);
    if (block.geometry.slots <= BUFFERS) {
        fprintf(stderr, "driver: the ring has too few slots for %d buffers\n", BUFFERS);
        return 1;
    }
    const int lock_fd = shmring_reopen(fd, 1); /* a description of its own, never mapped */
    close(fd);
    if (lock_fd < 0)
        return fail("lock", SHMRING_SYSTEM);
    result = shmring_producer_open(&out, &block, lock_fd);
    if (result != SHMRING_OK)
        return fail("become the producer", result);
    shmring_await_consumers(&out, 1, SHMRING_FOR_EVER, &patience);
    grab(&out, strtoull(argv[2], NULL, 10), &patience);
    printf("driver.c: %" PRIu64 " pictures published, %" PRIu64 " incomplete\n", out.head, out.dropped);
    shmring_producer_close(&out); /* end of the stream */
    close(lock_fd);
    shmring_unmap(&block);
    return 0;
}
