/* SPDX-License-Identifier: Apache-2.0
 *
 * shmring: a lock-free ring of frames in shared memory, one producer, many consumers, a delivery
 * policy for each. For C11 and C++17. Include it before any other header, or define _GNU_SOURCE.
 *
 * A producer: shmring_open, shmring_map(SHMRING_PRODUCE), shmring_reopen, shmring_producer_open; then
 * shmring_claim_wait, write to shmring_claimed_slot, shmring_describe, shmring_publish.
 * A consumer: shmring_open, shmring_map(SHMRING_CONSUME), shmring_reopen, shmring_join; then
 * shmring_take_frames or shmring_wait_data, read the slot of the hold, shmring_release; shmring_leave.
 * An onlooker: shmring_open(SHMRING_OBSERVE), shmring_look_at_identity; then shmring_look_at_ring and its like.
 * docs/protocol.md says why each step is safe, examples/ has a program.
 */
#ifndef SHMRING_SHMRING_H
#define SHMRING_SHMRING_H

#include "block.h"
#include "clock.h"
#include "consumer.h"
#include "layout.h"
#include "observe.h"
#include "producer.h"
#include "types.h"
#include "wait.h"

#endif /* SHMRING_SHMRING_H */
