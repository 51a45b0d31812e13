/* The least that a ring in shared memory can cost: acquire, release, and nothing else.
 *
 *     ring BYTES SLOTS FRAMES CONSUMERS copy|place touch|all walk|warm BATCH    frames per second
 *     ring solo BYTES SLOTS FRAMES                                             ns of a put and of a get
 *
 * walk: one slot after the other. warm: the slot that the consumer freed last (one consumer).
 * Every frame carries its number; "all" also checks the sum of its words.
 */
#include "common.h"

#define MOST_CONSUMERS 64

typedef struct cursor {
    uint64_t position __attribute__((aligned(LINE)));
    int64_t ended_ns;
} cursor;

typedef struct control {
    uint64_t head __attribute__((aligned(LINE)));
    uint64_t ready __attribute__((aligned(LINE)));
    int64_t began_ns;
    cursor cursors[MOST_CONSUMERS];
} control;

typedef struct ring {
    control *shared;
    uint8_t *data;
    uint32_t *slot_of; /* warm: position -> slot */
    size_t bytes, stride, words;
    uint64_t slots, frames, batch, base_sum;
    int consumers, copy, all, warm, crowded;
} ring;

static uint8_t *
frame_at(const ring *r, uint64_t position)
{
    const uint64_t index = position % r->slots;
    return r->data + (r->warm ? r->slot_of[index] : index) * r->stride;
}

static uint64_t
lowest_cursor(const ring *r)
{
    uint64_t lowest = UINT64_MAX;
    for (int i = 0; i < r->consumers; i++) {
        const uint64_t position = ACQUIRE(&r->shared->cursors[i].position);
        lowest = position < lowest ? position : lowest;
    }
    return lowest;
}

static void
check(int good, const char *what, uint64_t position)
{
    if (good)
        return;
    fprintf(stderr, "frame %llu: wrong %s\n", (unsigned long long)position, what);
    kill(getppid(), SIGTERM); /* the producer would never stop waiting */
    exit(1);
}

static void
produce(const ring *r)
{
    uint8_t *const source = shared_memory(r->bytes);
    uint32_t *const spare = malloc(r->slots * sizeof *spare); /* the slots freed last are on top */
    uint64_t spares = 0, gate = 0;
    unsigned looks = 0;
    for (uint64_t i = 0; i < r->slots; i++)
        spare[spares++] = (uint32_t)i;
    while (ACQUIRE(&r->shared->ready) < (uint64_t)r->consumers)
        sched_yield();
    r->shared->began_ns = now_ns();
    for (uint64_t position = 0; position < r->frames; position++) {
        while (r->warm || position - gate >= r->slots) {
            const uint64_t seen = lowest_cursor(r);
            for (; r->warm && gate < seen; gate++)
                spare[spares++] = r->slot_of[gate % r->slots];
            gate = seen;
            if (position - gate < r->slots)
                break;
            wait_a_bit(&looks, r->crowded);
        }
        if (r->warm)
            r->slot_of[position % r->slots] = spare[--spares];
        uint8_t *const frame = frame_at(r, position);
        if (r->copy) {
            memcpy(source, &position, sizeof position);
            memcpy(frame, source, r->bytes);
        } else {
            memcpy(frame, &position, sizeof position);
        }
        if ((position + 1) % r->batch == 0 || position + 1 == r->frames)
            RELEASE(&r->shared->head, position + 1);
    }
    free(spare);
}

static void
consume(const ring *r, int number)
{
    cursor *const mine = &r->shared->cursors[number];
    uint64_t head = 0;
    unsigned looks = 0;
    __atomic_fetch_add(&r->shared->ready, 1, __ATOMIC_ACQ_REL);
    for (uint64_t position = 0; position < r->frames; position++) {
        while (head <= position) {
            head = ACQUIRE(&r->shared->head);
            if (head <= position)
                wait_a_bit(&looks, r->crowded);
        }
        const uint8_t *const frame = frame_at(r, position);
        uint64_t found = 0;
        memcpy(&found, frame, sizeof found);
        check(found == position, "number", position);
        check(!r->copy || r->bytes == sizeof found || frame[r->bytes - 1] == 1, "last byte", position);
        if (r->all)
            check(sum_words((const uint64_t *)(const void *)frame, r->words) == r->base_sum + position, "sum",
                  position);
        if ((position + 1) % r->batch == 0 || position + 1 == r->frames)
            RELEASE(&mine->position, position + 1);
    }
    mine->ended_ns = now_ns();
}

static void
stream(const ring *r)
{
    for (int i = 0; i < r->consumers; i++)
        if (fork_child() == 0) {
            if (r->consumers == 1)
                pin_to(1);
            consume(r, i);
            exit(0);
        }
    if (r->consumers == 1)
        pin_to(0);
    produce(r);
    join_children(r->consumers);
    int64_t ended = 0;
    for (int i = 0; i < r->consumers; i++)
        if (r->shared->cursors[i].ended_ns > ended)
            ended = r->shared->cursors[i].ended_ns;
    printf("%.1f\n", (double)r->frames * 1e9 / (double)(ended - r->shared->began_ns));
}

/* Puts and gets by turns in one process: what they cost with everything in the cache. */
static void
solo(const ring *r)
{
    enum { turn = 16 };
    uint8_t *const source = shared_memory(r->bytes);
    int64_t putting = 0, getting = 0;
    uint64_t total = 0;
    pin_to(1);
    for (uint64_t position = 0; position < r->frames; position += turn) {
        const int64_t began = now_ns();
        for (uint64_t i = position; i < position + turn; i++) {
            if (i - lowest_cursor(r) >= r->slots)
                exit(1);
            memcpy(frame_at(r, i), source, r->bytes);
            RELEASE(&r->shared->head, i + 1);
        }
        const int64_t middle = now_ns();
        for (uint64_t i = position; i < position + turn; i++) {
            if (ACQUIRE(&r->shared->head) <= i)
                exit(1);
            total += frame_at(r, i)[0];
            RELEASE(&r->shared->cursors[0].position, i + 1);
        }
        putting += middle - began;
        getting += now_ns() - middle;
    }
    check(total == r->frames, "total", r->frames);
    printf("{\"put\": %.2f, \"get\": %.2f}\n", (double)putting / (double)r->frames,
           (double)getting / (double)r->frames);
}

int
main(int argc, char **argv)
{
    ring r;
    memset(&r, 0, sizeof r);
    const int is_solo = argc == 5 && strcmp(argv[1], "solo") == 0;
    if (!is_solo && argc != 9)
        return 2;
    char **const sizes = argv + (is_solo ? 2 : 1);
    r.bytes = strtoull(sizes[0], NULL, 10);
    r.slots = strtoull(sizes[1], NULL, 10);
    r.frames = strtoull(sizes[2], NULL, 10);
    r.consumers = 1;
    r.batch = 1;
    if (!is_solo) {
        r.consumers = atoi(argv[4]);
        r.copy = strcmp(argv[5], "copy") == 0;
        r.all = strcmp(argv[6], "all") == 0;
        r.warm = strcmp(argv[7], "warm") == 0;
        r.batch = strtoull(argv[8], NULL, 10);
    }
    if (r.consumers < 1 || r.consumers > MOST_CONSUMERS || (r.warm && r.consumers != 1) || r.batch > r.slots)
        return 2;
    r.crowded = r.consumers + 1 > sysconf(_SC_NPROCESSORS_ONLN);
    r.stride = (r.bytes + 63) / 64 * 64;
    r.words = r.bytes / 8;
    r.shared = shared_memory(sizeof *r.shared);
    memset(r.shared, 0, sizeof *r.shared);
    r.slot_of = shared_memory(r.slots * sizeof *r.slot_of);
    r.data = shared_memory(r.slots * r.stride);
    r.base_sum = sum_words((const uint64_t *)(const void *)r.data, r.words) - UINT64_C(0x0101010101010101);
    if (is_solo)
        solo(&r);
    else
        stream(&r);
    return 0;
}
