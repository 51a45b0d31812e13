/* shmring_pair RING FRAMES BATCH: a producer and a consumer in C, through the public headers, on a ring
 * that Python created. Prints frames per second. Checks every seq and the first word of every frame.
 */
#include <shmring/shmring.h>

#include "common.h"

#define SPIN SHMRING_FOR_EVER
#define MOST_BATCH 64

typedef struct meeting {
    uint64_t ready;
    int64_t began_ns, ended_ns;
} meeting;

static void
wait_for_frames(const shmring_consumer *in, uint64_t least)
{
    const shmring_news news = shmring_note_news(in, least);
    shmring_wait_data(in->block, &news, shmring_now_ns() + SHMRING_SECOND, SPIN, 2);
}

static void
stop(const char *what)
{
    fprintf(stderr, "shmring_pair: %s\n", what);
    kill(getppid(), SIGTERM); /* in the consumer: the producer would never stop waiting */
    exit(1);
}

static int
open_ring(const char *name, int access, shmring_block *block)
{
    const int fd = shmring_open(name, access);
    if (fd < 0 || shmring_map(block, fd, access) != SHMRING_OK)
        stop("cannot attach");
    const int lock_fd = shmring_reopen(fd, 1);
    close(fd);
    return lock_fd;
}

static void
consume(const char *name, uint64_t frames, uint64_t batch, meeting *shared)
{
    static shmring_block block;
    static shmring_consumer in;
    uint64_t seqs[MOST_BATCH];
    shmring_taken taken;
    memset(&taken, 0, sizeof taken);
    taken.seqs = seqs;
    const int lock_fd = open_ring(name, SHMRING_CONSUME, &block);
    if (shmring_join(&in, &block, lock_fd, 1, SHMRING_START_OLDEST, "bench") != SHMRING_OK)
        stop("cannot join");
    pin_to(1);
    RELEASE(&shared->ready, 1);
    for (uint64_t done = 0; done < frames; done += taken.count) {
        while (shmring_take_batch(&in, batch, batch, &taken) != SHMRING_OK)
            wait_for_frames(&in, batch);
        for (uint64_t i = 0; i < taken.count; i++) {
            uint64_t word;
            memcpy(&word, shmring_slot_at(&block, taken.hold->slot) + i * block.geometry.slot_stride,
                   sizeof word);
            if (seqs[i] != done + i || word != done + i)
                stop("wrong frame");
        }
        shmring_release(&in, taken.hold);
    }
    shared->ended_ns = now_ns();
    shmring_leave(&in);
}

static void
produce(const char *name, uint64_t frames, uint64_t batch, meeting *shared)
{
    static shmring_block block;
    static shmring_producer out;
    const int lock_fd = open_ring(name, SHMRING_PRODUCE, &block);
    uint8_t *const source = (uint8_t *)shared_memory(block.geometry.frame_bytes);
    if (shmring_producer_open(&out, &block, lock_fd) != SHMRING_OK)
        stop("cannot produce");
    pin_to(0);
    while (ACQUIRE(&shared->ready) == 0)
        sched_yield();
    shared->began_ns = now_ns();
    for (uint64_t done = 0; done < frames;) {
        const uint64_t want = frames - done < batch ? frames - done : batch;
        while (shmring_claim_wait(&out, want, shmring_now_ns() + SHMRING_SECOND, SPIN, 2) != SHMRING_OK)
            ;
        const uint64_t count = out.count;
        for (uint64_t i = 0; i < count; i++) {
            const uint64_t number = done + i;
            memcpy(source, &number, sizeof number);
            shmring_copy_in(&out, i, source, block.geometry.frame_bytes);
            shmring_describe(&out, i, 0, 0, NULL);
        }
        shmring_publish(&out, count);
        done += count;
    }
    while (ACQUIRE(&shared->ended_ns) == 0)
        sched_yield();
    shmring_producer_close(&out);
}

int
main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    const uint64_t frames = strtoull(argv[2], NULL, 10);
    const uint64_t batch = strtoull(argv[3], NULL, 10);
    if (batch < 1 || batch > MOST_BATCH || frames % batch != 0)
        return 2;
    meeting *const shared = shared_memory(sizeof *shared);
    memset(shared, 0, sizeof *shared);
    if (fork_child() == 0) {
        consume(argv[1], frames, batch, shared);
        exit(0);
    }
    produce(argv[1], frames, batch, shared);
    join_children(1);
    printf("%.1f\n", (double)frames * 1e9 / (double)(shared->ended_ns - shared->began_ns));
    return 0;
}
