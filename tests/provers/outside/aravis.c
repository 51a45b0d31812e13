/* SPDX-License-Identifier: Apache-2.0
 *
 * A driver of others on the buffers of a ring: Aravis, with the fake camera that it brings.
 *
 *     aravis RING PICTURES
 *
 * The ring's frames are what that camera sends. Prints how many pictures came in another order than that of
 * their buffers.
 */
#include <shmring/shmring.h>

#include <arv.h>
#include <stdio.h>

enum { BUFFERS = 4, MOST_SLOTS = 64 };

static ArvBuffer *known[MOST_SLOTS]; /* the buffer that Aravis has for each slot */

static int
fail(const char *what)
{
    fprintf(stderr, "aravis.c: %s\n", what);
    return 1;
}

/* Gives the camera buffers until it has as many as there are claimed frames. */
static void
push(const shmring_producer *out, ArvStream *stream, uint64_t has)
{
    const uint64_t bytes = out->block->geometry.frame_bytes;
    for (uint64_t i = has; i < out->count; i++) {
        const uint64_t slot = shmring_claimed_slot_of(out, i);
        if (known[slot] == NULL)
            known[slot] = arv_buffer_new(bytes, shmring_slot_at(out->block, slot));
        arv_stream_push_buffer(stream, known[slot]);
    }
}

int
main(int argc, char **argv)
{
    const shmring_patience patience = shmring_default_patience();
    static shmring_producer out;
    shmring_block block;
    const int fd = argc == 3 ? shmring_open(argv[1], SHMRING_PRODUCE) : -1;
    if (fd < 0 || shmring_map(&block, fd, SHMRING_PRODUCE) != SHMRING_OK)
        return fail("no such ring");
    if (block.geometry.slots + block.geometry.spares > MOST_SLOTS ||
        shmring_producer_open(&out, &block, shmring_reopen(fd, 1)) != SHMRING_OK)
        return fail("too many slots, or another producer");
    arv_enable_interface("Fake");
    ArvCamera *const camera = arv_camera_new("Fake_1", NULL);
    ArvStream *const stream = camera == NULL ? NULL : arv_camera_create_stream(camera, NULL, NULL, NULL);
    if (stream == NULL || arv_camera_get_payload(camera, NULL) != block.geometry.frame_bytes)
        return fail("no fake camera, or other pictures");
    arv_camera_set_frame_rate(camera, 100, NULL);
    arv_camera_start_acquisition(camera, NULL);
    uint64_t has = 0, disordered = 0;
    while (out.head < strtoull(argv[2], NULL, 10)) {
        if (out.count == 0)
            shmring_claim_until(&out, 1, SHMRING_FOR_EVER, &patience);
        while (out.count < BUFFERS && shmring_claim_more(&out) == SHMRING_OK)
            continue;
        push(&out, stream, has);
        has = out.count;
        ArvBuffer *const full = arv_stream_timeout_pop_buffer(stream, 10000000);
        if (full == NULL)
            return fail("no picture in 10 s");
        size_t bytes;
        disordered += arv_buffer_get_data(full, &bytes) != shmring_claimed_slot(&out);
        if (arv_buffer_get_status(full) == ARV_BUFFER_STATUS_SUCCESS) {
            shmring_describe(&out, 0, (int64_t)arv_buffer_get_timestamp(full), 0, NULL);
            shmring_publish_oldest(&out);
        } else {
            shmring_requeue_oldest(&out);
            shmring_drop(&out, 1);
        }
        has--;
    }
    arv_camera_stop_acquisition(camera, NULL);
    g_object_unref(stream); /* the camera writes nowhere any more */
    shmring_abort(&out);
    shmring_producer_close(&out);
    printf("%d\n", (int)disordered);
    return 0;
}
