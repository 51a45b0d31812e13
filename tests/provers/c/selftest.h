/* SPDX-License-Identifier: Apache-2.0
 *
 * The self-test: one file for each side of the protocol, each a list of tests. A test fabricates the
 * counters of a ring by hand where it must, does one step, and looks at what came of it.
 */
#ifndef SHMRING_TESTS_SELFTEST_H
#define SHMRING_TESTS_SELFTEST_H

#include "common.h"

typedef struct test {
    const char *name;
    void (*run)(void);
} test;

/* clang-format off */
#define TEST(function) {#function, function}
#define LAST_TEST {NULL, NULL}
/* clang-format on */

extern const test layout_tests[];
extern const test system_tests[];
extern const test producer_tests[];
extern const test buffer_tests[];
extern const test swap_tests[];
extern const test copy_tests[];
extern const test takeover_tests[];
extern const test consumer_tests[];
extern const test hold_tests[];
extern const test lossy_tests[];
extern const test join_tests[];
extern const test liveness_tests[];
extern const test waiting_tests[];
extern const test await_tests[];
extern const test look_tests[];
extern const test spare_tests[];
extern const test share_tests[];
extern const test group_tests[];
extern const test private_tests[];

#endif /* SHMRING_TESTS_SELFTEST_H */
