/* SPDX-License-Identifier: Apache-2.0
 *
 * What the compiler and the system headers are asked for, before any of those is included. Linux only.
 */
#ifndef SHMRING_INTERNAL_PLATFORM_H
#define SHMRING_INTERNAL_PLATFORM_H

#if !defined(__linux__)
#error "shmring runs on Linux only so far"
#endif

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* F_OFD_SETLK, MAP_ANONYMOUS, syscall; include shmring before other headers */
#endif

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef F_OFD_GETLK
#define F_OFD_GETLK 36
#define F_OFD_SETLK 37
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#endif /* SHMRING_INTERNAL_PLATFORM_H */
