/* bandwidth memcpy|stream|read BYTES MILLISECONDS: GB/s of one core. */
#include "common.h"

#include <shmring/internal/copy.h>

int
main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    const size_t bytes = strtoull(argv[2], NULL, 10);
    const int64_t lasts = strtoll(argv[3], NULL, 10) * 1000000;
    uint8_t *const source = shared_memory(bytes);
    uint8_t *const target = shared_memory(bytes);
    uint64_t sum = 0;
    size_t passes = 0;
    pin_to(1);
    const int64_t began = now_ns();
    int64_t ended = began;
    while (ended - began < lasts) {
        if (argv[1][0] == 'm')
            memcpy(target, source, bytes);
        else if (argv[1][0] == 's')
            shmring_copy_streaming(target, source, bytes);
        else
            sum += sum_words((const uint64_t *)(const void *)source, bytes / 8);
        __asm__ volatile("" : : "r"(target), "r"(sum) : "memory"); /* every pass is wanted */
        passes++;
        ended = now_ns();
    }
    printf("%.3f\n", (double)passes * (double)bytes / (double)(ended - began));
    return 0;
}
