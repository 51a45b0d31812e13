/* SPDX-License-Identifier: Apache-2.0
 *
 * shmring: a lock-free ring of frames in shared memory, one producer, many consumers, a delivery
 * policy for each. For C11 and C++17. Include it before any other header, or define _GNU_SOURCE.
 *
 * The interface is what is listed here. Whatever else these headers contain (shmring/internal/) may change
 * with every release. Each function is explained where it is defined; docs/protocol.md says why each step
 * is safe, and examples/ has a program.
 *
 * block.h
 *     shmring_open                find a ring by its name
 *     shmring_map                 check and map it
 *     shmring_unmap
 *     shmring_prefault            touch its pages before the first frame does
 *     shmring_reopen              a file descriptor for the lock of a producer or consumer
 *     shmring_slot_at             the memory of a frame
 *     shmring_geometry_choose     to create a ring: sizes and offsets,
 *     shmring_format                  the empty ring itself,
 *     shmring_link                    its name
 * huge.h
 *     shmring_make_huge           put huge pages under a new ring's slots
 *     shmring_huge_bytes          how many bytes lie on some,
 *     shmring_huge_span               of those that can
 * clock.h
 *     shmring_now_ns              what deadlines are compared with
 *     shmring_coarse_now_ns       the same, cheaper and coarser
 *     shmring_clock_ns            any other clock, for timestamps
 * producer.h
 *     shmring_producer_open       become the producer
 *     shmring_claim               get slots to write to
 *     shmring_claimed_slot        where
 *     shmring_copy_in             a frame that is somewhere else
 *     shmring_describe            its timestamp, rows and meta
 *     shmring_publish             make frames visible
 *     shmring_abort               give them back
 *     shmring_drop                count frames that found no space
 *     shmring_claim_more          one more buffer, where a driver fills several:
 *     shmring_claimed_slot_of         its slot,
 *     shmring_publish_oldest          publish the first one,
 *     shmring_requeue_oldest          or fill it again
 *     shmring_reap_all            free the places of dead consumers
 *     shmring_producer_close      end the stream
 *     shmring_producer_fail       end it because of an error
 *     shmring_producer_abandon    leave it as if this process had died
 * consumer.h
 *     shmring_join                become a consumer
 *     shmring_join_group          become a member of a group, which shares the frames
 *     shmring_limit_held          how many slots a lossy consumer may hold
 *     shmring_take_one            the next frame
 *     shmring_take_batch          several
 *     shmring_take_window         several again, and some of them again next time
 *     shmring_end_scattered       after a window that was not in one piece
 *     shmring_take_latest         the newest frame
 *     shmring_release             give frames back
 *     shmring_want_runs           ask for frames in one piece, for batches and windows
 *     shmring_leave               end it
 *     shmring_leave_holding       end it while frames are held
 * wait.h
 *     shmring_await               sleep until frames are there, or cannot come any more
 *     shmring_claim_until         sleep until there is space for a claim
 *     shmring_await_consumers     sleep until consumers have joined
 *     shmring_default_patience    how these wait
 *     shmring_outlook             what frames to come depend on, without a wait
 *     shmring_claim_briefly       claim, if there is space in a moment
 *     shmring_claim_wait          one sleep for space, for programs that do something else between two,
 *     shmring_claim_slice             which frees the places of dead consumers too
 * observe.h
 *     shmring_look_at_identity    read the block's file, without taking part:
 *     shmring_look_at_ring            the ring and its producer,
 *     shmring_look_at_producer        whether it lives,
 *     shmring_look_at_places          its consumers,
 *     shmring_look_at_groups          their groups,
 *     shmring_look_at_frame           a frame
 *     shmring_read_ring_status    the same from a mapped block
 *     shmring_read_place_status
 *     shmring_copy_out
 * truncation.h, which is not included here
 *     shmring_survive_truncation  survive a block whose file is cut:
 *     shmring_cover                   announce a mapped block,
 *     shmring_uncover
 *     shmring_lost_pages              whether it was cut
 * private.h, neither
 *     shmring_map_private         writable memory of held frames, whose pages are copied when written to
 *     shmring_unmap_private
 *     shmring_copy_private        copies the others too
 * writes.h, neither
 *     shmring_explain_writes      a line on stderr about a write to a frame, before the process dies of it
 */
#ifndef SHMRING_SHMRING_H
#define SHMRING_SHMRING_H

#include "block.h" /* first: it asks for GNU names */

#include "clock.h"
#include "consumer.h"
#include "huge.h"
#include "layout.h"
#include "observe.h"
#include "producer.h"
#include "types.h"
#include "wait.h"

#endif /* SHMRING_SHMRING_H */
