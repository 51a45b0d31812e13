/* A camera of Aravis (GigE Vision, USB3 Vision) that writes its pictures into the slots of a ring, which a
 * Python program created. Without a camera it takes the fake one that Aravis brings.
 *
 *     cc -I "$(python -c 'import shmring; print(shmring.get_include())')" grab.c -o grab \
 *         $(pkg-config --cflags --libs aravis-0.8)
 *     ./grab RING PICTURES [CAMERA]
 *
 * Prints how many pictures were damaged. Aravis returns buffers in the order in which it got them. If one
 * came early, the program would end rather than publish a picture that the camera is still writing.
 */
#include <shmring/shmring.h> /* before other headers: it asks for GNU names */

#include <arv.h>
#include <stdio.h>

enum { BUFFERS = 4, MOST_SLOTS = 64 };

static ArvBuffer *known[MOST_SLOTS]; /* the buffer that Aravis has for each slot */

static int
fail(const char *what)
{
    fprintf(stderr, "grab: %s\n", what);
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

/* Whether it is the whole picture: one of a smaller region is a success as well. */
static int
complete(ArvBuffer *full, const shmring_producer *out)
{
    size_t bytes;
    arv_buffer_get_data(full, &bytes);
    return arv_buffer_get_status(full) == ARV_BUFFER_STATUS_SUCCESS &&
           bytes == out->block->geometry.frame_bytes;
}

/* Publishes so many pictures. */
static int
grab(shmring_producer *out, ArvStream *stream, uint64_t pictures)
{
    const shmring_patience patience = shmring_default_patience();
    uint64_t has = 0, damaged = 0;
    while (out->head < pictures) {
        if (out->count == 0)
            shmring_claim_until(out, 1, SHMRING_FOR_EVER, &patience);
        while (out->count < BUFFERS && shmring_claim_more(out) == SHMRING_OK)
            continue;
        push(out, stream, has);
        has = out->count;
        ArvBuffer *const full = arv_stream_timeout_pop_buffer(stream, 10000000);
        if (full == NULL)
            return fail("no picture in 10 s");
        size_t bytes;
        if (arv_buffer_get_data(full, &bytes) != shmring_claimed_slot(out))
            return fail("a picture came before an earlier one");
        if (complete(full, out)) {
            shmring_describe(out, 0, (int64_t)arv_buffer_get_timestamp(full), 0, NULL);
            shmring_publish_oldest(out);
        } else {
            damaged++;
            shmring_requeue_oldest(out);
            shmring_drop(out, 1);
        }
        has--;
    }
    printf("%d damaged\n", (int)damaged);
    return 0;
}

int
main(int argc, char **argv)
{
    static shmring_producer out;
    shmring_block block;
    const int fd = argc == 3 || argc == 4 ? shmring_open(argv[1], SHMRING_PRODUCE) : -1;
    if (fd < 0 || shmring_map(&block, fd, SHMRING_PRODUCE) != SHMRING_OK)
        return fail("no such ring");
    if (block.geometry.slots + block.geometry.spares > MOST_SLOTS ||
        shmring_producer_open(&out, &block, shmring_reopen(fd, 1)) != SHMRING_OK)
        return fail("too many slots, or another producer");
    arv_enable_interface("Fake");
    ArvCamera *const camera = arv_camera_new(argc == 4 ? argv[3] : "Fake_1", NULL);
    ArvStream *const stream = camera == NULL ? NULL : arv_camera_create_stream(camera, NULL, NULL, NULL);
    if (stream == NULL || arv_camera_get_payload(camera, NULL) != block.geometry.frame_bytes)
        return fail("no such camera, or its pictures are not the ring's frames");
    arv_camera_set_frame_rate(camera, 100, NULL);
    arv_camera_start_acquisition(camera, NULL);
    const int code = grab(&out, stream, strtoull(argv[2], NULL, 10));
    arv_camera_stop_acquisition(camera, NULL);
    g_object_unref(stream); /* the camera writes nowhere any more */
    g_object_unref(camera);
    shmring_abort(&out);
    shmring_producer_close(&out);
    return code;
}
