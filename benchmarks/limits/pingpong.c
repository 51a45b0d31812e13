/* One-way times between two cores, by ping-pong.
 *
 *     pingpong probe         ns from core to core (a number)
 *     pingpong line N        a cache line with a number and 56 bytes more, spinning: percentiles
 *     pingpong copy N BYTES  the same with a copy of BYTES in front: percentiles
 *     pingpong futex N       raw futex wake of a sleeping process: percentiles
 */
#include "common.h"

#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>

typedef struct side {
    uint64_t number __attribute__((aligned(LINE)));
    uint8_t payload[56];
    uint32_t word __attribute__((aligned(LINE)));
} side;

static side *sides;      /* ping's, pong's */
static uint8_t *data[2]; /* where each copies its payload to */
static size_t bytes;

static void
send_line(int from, uint64_t number, const uint8_t *source)
{
    if (bytes == 0)
        memcpy(sides[from].payload, source, sizeof sides[from].payload);
    else
        memcpy(data[from], source, bytes);
    RELEASE(&sides[from].number, number);
}

static void
receive_line(int from, uint64_t number)
{
    while (ACQUIRE(&sides[from].number) != number)
        relax();
    const uint8_t *const last =
        bytes == 0 ? &sides[from].payload[sizeof sides[from].payload - 1] : data[from] + bytes - 1;
    if (*(const volatile uint8_t *)last != 1)
        exit(1);
}

static void
send_futex(int from, uint64_t number, const uint8_t *source)
{
    (void)source;
    RELEASE(&sides[from].word, (uint32_t)number);
    syscall(SYS_futex, &sides[from].word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static void
receive_futex(int from, uint64_t number)
{
    uint32_t seen;
    while ((seen = ACQUIRE(&sides[from].word)) != (uint32_t)number)
        syscall(SYS_futex, &sides[from].word, FUTEX_WAIT, seen, NULL, NULL, 0);
}

static void
play(size_t rounds, int64_t *times, void (*send)(int, uint64_t, const uint8_t *),
     void (*receive)(int, uint64_t))
{
    const size_t warm_up = rounds / 10 + 1;
    const size_t all = rounds + warm_up;
    if (fork_child() == 0) {
        pin_to(1);
        uint8_t *const source = shared_memory(bytes == 0 ? 64 : bytes);
        for (size_t i = 1; i <= all; i++) {
            receive(0, i);
            send(1, i, source);
        }
        exit(0);
    }
    pin_to(0);
    uint8_t *const source = shared_memory(bytes == 0 ? 64 : bytes);
    int64_t before = now_ns();
    for (size_t i = 1; i <= all; i++) {
        send(0, i, source);
        receive(1, i);
        if (times == NULL)
            continue;
        const int64_t now = now_ns();
        if (i > warm_up)
            times[i - warm_up - 1] = now - before;
        before = now;
    }
    if (times == NULL)
        printf("%.1f\n", (double)(now_ns() - before) / (double)all / 2);
    join_children(1);
}

int
main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    sides = shared_memory(2 * sizeof *sides);
    memset(sides, 0, 2 * sizeof *sides);
    memset(sides[0].payload, 1, sizeof sides[0].payload);
    memset(sides[1].payload, 1, sizeof sides[1].payload);
    if (strcmp(argv[1], "probe") == 0) {
        play(4000, NULL, send_line, receive_line);
        return 0;
    }
    const size_t rounds = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
    int64_t *const times = malloc((rounds + 1) * sizeof *times);
    if (rounds == 0 || times == NULL)
        return 2;
    if (strcmp(argv[1], "copy") == 0 && argc > 3) {
        bytes = strtoull(argv[3], NULL, 10);
        data[0] = shared_memory(bytes);
        data[1] = shared_memory(bytes);
    }
    if (strcmp(argv[1], "futex") == 0)
        play(rounds, times, send_futex, receive_futex);
    else
        play(rounds, times, send_line, receive_line);
    print_percentiles(times, rounds);
    free(times);
    return 0;
}
