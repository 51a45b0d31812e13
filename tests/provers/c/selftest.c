/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs the self-test: all of it, or the tests whose names contain the argument. Deterministic but for
 * the tests that wait for another thread or process.
 */
#include "selftest.h"

#include <setjmp.h>

static const test *const lists[] = {
    layout_tests, system_tests, producer_tests, swap_tests,     copy_tests,    takeover_tests, consumer_tests,
    hold_tests,   lossy_tests,  join_tests,     liveness_tests, waiting_tests, await_tests,    look_tests,
    group_tests,  spare_tests,  share_tests,    buffer_tests,   private_tests,
};

static jmp_buf after_failure;
static const char *running;
static int passed, failed;

void
check_failed(const char *file, int line, const char *what)
{
    printf("FAILED %s\n  %s:%d: %s\n", running, file, line, what);
    longjmp(after_failure, 1);
}

static void
run(const test *one)
{
    running = one->name;
    if (setjmp(after_failure) == 0) {
        one->run();
        passed++;
    } else {
        failed++;
    }
}

int
main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IONBF, 0); /* forked children must not print it again */
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        for (const test *one = lists[i]; one->run != NULL; one++)
            if (argc < 2 || strstr(one->name, argv[1]) != NULL)
                run(one);
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
