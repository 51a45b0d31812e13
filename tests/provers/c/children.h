/* SPDX-License-Identifier: Apache-2.0
 *
 * Child processes of a test: started, killed, awaited. What a child finds wrong, its parent finds in its exit
 * status.
 */
#ifndef SHMRING_TESTS_CHILDREN_H
#define SHMRING_TESTS_CHILDREN_H

#include "common.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* Runs play(who, random) in a process of its own, which does not outlive this one. */
static inline pid_t
start_child(void (*play)(int who, uint64_t random), int who, uint64_t random)
{
    const pid_t parent = getpid();
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        play(who, random);
        _exit(0);
    }
    return child;
}

/* Kills one that may have ended by now, but not because it found something wrong. */
static inline void
kill_child(pid_t child)
{
    int status;
    kill(child, SIGKILL);
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK((WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) || status == 0);
}

static inline void
let_child_end(pid_t child)
{
    int status;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

#endif /* SHMRING_TESTS_CHILDREN_H */
