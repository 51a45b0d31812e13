/* SPDX-License-Identifier: Apache-2.0
 *
 * The bytes of a ring's block: identity, hot words, consumer table, schema, entries,
 * slots. docs/layout.md lists every offset; tests hold a golden block against it.
 */
#ifndef SHMRING_LAYOUT_H
#define SHMRING_LAYOUT_H

#include "internal/platform.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "a shmring block is little-endian; this machine is not"
#endif

#ifdef __cplusplus
#define SHMRING_STATIC_ASSERT(condition, text) static_assert(condition, text)
#else
#define SHMRING_STATIC_ASSERT(condition, text) _Static_assert(condition, text)
#endif

#define SHMRING_MAGIC UINT64_C(0x00474e49524d4853) /* "SHMRING\0" */
#define SHMRING_ABI 2u
#define SHMRING_MAX_CONSUMERS 64u
#define SHMRING_MAX_GROUPS 4u
#define SHMRING_MAX_SLOTS UINT64_C(0xfffffffe) /* and spare slots: their index has 32 bits */
#define SHMRING_MAX_BLOCK (UINT64_C(1) << 40)
#define SHMRING_MAX_BATCH 1024u
#define SHMRING_MAX_POSITION (UINT64_C(1) << 54) /* no ring comes so far; room for owner words */
#define SHMRING_MAX_SCHEMA (UINT64_C(1) << 20)
#define SHMRING_ALIGN UINT64_C(64)      /* of slots and entries: one cache line */
#define SHMRING_HOT_ALIGN UINT64_C(128) /* hot words: cores prefetch lines in pairs */
#define SHMRING_LABEL_BYTES 64u
#define SHMRING_FAILURE_BYTES 80u

/* Bytes of the block's file that carry locks, far beyond any data. */
#define SHMRING_LOCK_PRODUCER (INT64_C(1) << 40)
#define SHMRING_LOCK_PLACE(place) (SHMRING_LOCK_PRODUCER + 1 + (int64_t)(place))
/* Held for the instant in which a member joins a group: one at a time. */
#define SHMRING_LOCK_GROUPS (SHMRING_LOCK_PRODUCER + 512)
/* A span: each attached Ring holds one byte of it, chosen at random; to replace a ring takes all of it. */
#define SHMRING_LOCK_PRESENCE (SHMRING_LOCK_PRODUCER + 1024)
#define SHMRING_PRESENCE_BYTES (INT64_C(1) << 32)

/* What a handle copies at attach and reduces every index by. */
typedef struct shmring_geometry {
    uint64_t block_bytes;
    uint64_t slots;
    uint64_t spares; /* slots beyond those, for frames that are held while their entries move on */
    uint64_t frame_bytes;
    uint64_t slot_stride;
    uint64_t entry_stride;
    uint64_t meta_bytes;
    uint64_t row_bytes; /* bytes of one step of the first axis if frames may be shorter, else 0 */
    uint64_t consumers;
    uint64_t page_bytes;
    uint64_t hot_offset;
    uint64_t table_offset;
    uint64_t groups_offset;
    uint64_t schema_offset;
    uint64_t schema_bytes;
    uint64_t entries_offset;
    uint64_t owners_offset;
    uint64_t slots_offset;
} shmring_geometry;

typedef struct shmring_identity {
    uint64_t magic;
    uint32_t abi;
    uint32_t ready; /* stored last */
    uint8_t generation[16];
    uint64_t created_ns; /* CLOCK_REALTIME */
    uint32_t creator_pid;
    uint32_t reserved;
    shmring_geometry geometry;
    uint8_t unused[64];
} shmring_identity;

enum {
    SHMRING_PRODUCER_NONE = 0,
    SHMRING_PRODUCER_LIVE = 1,
    SHMRING_PRODUCER_CLOSED = 2,
    SHMRING_PRODUCER_FAILED = 3 /* it ended the stream because of an error: failure says which */
};

typedef struct shmring_hot {
    uint64_t head;     /* positions below it are published */
    uint64_t next_seq; /* seq of the next frame offered; shares the line that each publish writes */
    uint8_t head_pad[112];
    uint64_t claimed; /* positions below it may be being written */
    uint8_t claimed_pad[120];
    uint32_t data_event;
    uint8_t data_pad[124];
    uint32_t space_event;
    uint8_t space_pad[124];
    uint64_t active;     /* bit i: place i is joined */
    uint64_t join_count; /* counts joins and changes of what a consumer wants */
    uint8_t active_pad[112];
    uint32_t producer_state;
    uint32_t producer_pid;
    uint64_t epoch;      /* of the producer: the first one's is 1 */
    uint64_t start_time; /* of the producer's process, in clock ticks since boot */
    uint64_t dropped;
    uint64_t swaps;
    char failure[SHMRING_FAILURE_BYTES]; /* UTF-8; counts while the state is FAILED */
    uint8_t producer_pad[8];
} shmring_hot;

/* The low byte of a place's state; the bits above count its owners. */
enum {
    SHMRING_PLACE_FREE = 0,
    SHMRING_PLACE_JOINING = 1,
    SHMRING_PLACE_LOSSLESS = 2,
    SHMRING_PLACE_LOSSY = 3,
    SHMRING_PLACE_LEFT = 4,    /* gates nothing; still holds frames */
    SHMRING_PLACE_MEMBER = 5,  /* of a group, whose next gates */
    SHMRING_PLACE_ENTERING = 6 /* a group: as a member to the producer, not yet to those who join */
};

/* Bits of shmring_place.flags. */
#define SHMRING_AT_END 2u     /* a member that asked for more after the end of the stream */
#define SHMRING_WANTS_RUNS 1u /* reads batches or windows: consecutive frames are best adjacent in memory */

typedef struct shmring_place {
    uint64_t cursor;
    uint64_t delivered;
    uint64_t lost;
    uint64_t skipped;
    uint64_t held;
    uint64_t next; /* to be read; the cursor lags behind it while frames are held */
    uint64_t redelivered;
    uint8_t owner_pad[72];
    uint64_t state;
    uint64_t joined_ns; /* CLOCK_REALTIME */
    uint64_t start_time;
    uint32_t pid;
    uint32_t flags;
    char label[SHMRING_LABEL_BYTES];
    uint64_t max_held; /* slots that a lossy consumer may hold */
    uint32_t group;    /* of a member */
    uint8_t place_pad[20];
} shmring_place;

/* Bits of shmring_group.flags. */
#define SHMRING_AT_MOST_ONCE 1u /* what a dead member held is lost, not given to another */

/* Consumers that share the frames: each goes to one of them. There is a group while a member is joined. */
typedef struct shmring_group {
    uint64_t next; /* positions below it are taken */
    uint8_t next_pad[120];
    uint64_t events; /* counts what members are to look around for: frames of dead members, the end */
    uint64_t lost;   /* frames of dead members that nobody gets */
    uint32_t flags;
    uint32_t reserved;
    char name[SHMRING_LABEL_BYTES]; /* of the group that is, or was the last one */
    uint8_t group_pad[40];
} shmring_group;

/* The owner word of a slot for a group: (position + 1) << 8, and one of these. It only grows. */
enum {
    SHMRING_OWNER_DONE = 0,
    SHMRING_OWNER_REDO = 1, /* its member died: another one is to take it */
    SHMRING_OWNER_PLACE = 2 /* and the member's place added */
};

#define SHMRING_NO_POSITION UINT64_MAX /* in shmring_entry.position */

/* A line of two parts. The entry part belongs to an index of the ring; the record part describes the frame in
 * the slot of the same number, wherever the entry is that names this slot. */
typedef struct shmring_entry {
    uint64_t stamp; /* 0 invalid, 2p+1 writing position p, 2p+2 published p */
    uint32_t slot;  /* of the frame; its record is in the line of that slot */
    uint32_t reserved;
    uint64_t pins;     /* record: consumers' bits */
    uint64_t position; /* record: of the frame */
    uint64_t seq;
    int64_t timestamp_ns;
    uint64_t rows;
    uint64_t epoch;
    /* meta_bytes of meta follow: of the record */
} shmring_entry;

#define SHMRING_CHECK_OFFSET(type, member, offset) \
    SHMRING_STATIC_ASSERT(offsetof(type, member) == (offset), #type "." #member)

SHMRING_CHECK_OFFSET(shmring_geometry, block_bytes, 0);
SHMRING_CHECK_OFFSET(shmring_geometry, slots, 8);
SHMRING_CHECK_OFFSET(shmring_geometry, spares, 16);
SHMRING_CHECK_OFFSET(shmring_geometry, frame_bytes, 24);
SHMRING_CHECK_OFFSET(shmring_geometry, slot_stride, 32);
SHMRING_CHECK_OFFSET(shmring_geometry, entry_stride, 40);
SHMRING_CHECK_OFFSET(shmring_geometry, meta_bytes, 48);
SHMRING_CHECK_OFFSET(shmring_geometry, row_bytes, 56);
SHMRING_CHECK_OFFSET(shmring_geometry, consumers, 64);
SHMRING_CHECK_OFFSET(shmring_geometry, page_bytes, 72);
SHMRING_CHECK_OFFSET(shmring_geometry, hot_offset, 80);
SHMRING_CHECK_OFFSET(shmring_geometry, table_offset, 88);
SHMRING_CHECK_OFFSET(shmring_geometry, groups_offset, 96);
SHMRING_CHECK_OFFSET(shmring_geometry, schema_offset, 104);
SHMRING_CHECK_OFFSET(shmring_geometry, schema_bytes, 112);
SHMRING_CHECK_OFFSET(shmring_geometry, entries_offset, 120);
SHMRING_CHECK_OFFSET(shmring_geometry, owners_offset, 128);
SHMRING_CHECK_OFFSET(shmring_geometry, slots_offset, 136);
SHMRING_STATIC_ASSERT(sizeof(shmring_geometry) == 144, "shmring_geometry");

SHMRING_CHECK_OFFSET(shmring_identity, magic, 0);
SHMRING_CHECK_OFFSET(shmring_identity, abi, 8);
SHMRING_CHECK_OFFSET(shmring_identity, ready, 12);
SHMRING_CHECK_OFFSET(shmring_identity, generation, 16);
SHMRING_CHECK_OFFSET(shmring_identity, created_ns, 32);
SHMRING_CHECK_OFFSET(shmring_identity, creator_pid, 40);
SHMRING_CHECK_OFFSET(shmring_identity, geometry, 48);
SHMRING_STATIC_ASSERT(sizeof(shmring_identity) == 256, "shmring_identity");

SHMRING_CHECK_OFFSET(shmring_hot, head, 0);
SHMRING_CHECK_OFFSET(shmring_hot, next_seq, 8);
SHMRING_CHECK_OFFSET(shmring_hot, claimed, 128);
SHMRING_CHECK_OFFSET(shmring_hot, data_event, 256);
SHMRING_CHECK_OFFSET(shmring_hot, space_event, 384);
SHMRING_CHECK_OFFSET(shmring_hot, active, 512);
SHMRING_CHECK_OFFSET(shmring_hot, join_count, 520);
SHMRING_CHECK_OFFSET(shmring_hot, producer_state, 640);
SHMRING_CHECK_OFFSET(shmring_hot, producer_pid, 644);
SHMRING_CHECK_OFFSET(shmring_hot, epoch, 648);
SHMRING_CHECK_OFFSET(shmring_hot, start_time, 656);
SHMRING_CHECK_OFFSET(shmring_hot, dropped, 664);
SHMRING_CHECK_OFFSET(shmring_hot, swaps, 672);
SHMRING_CHECK_OFFSET(shmring_hot, failure, 680);
SHMRING_STATIC_ASSERT(sizeof(shmring_hot) == 768, "shmring_hot");

SHMRING_CHECK_OFFSET(shmring_place, cursor, 0);
SHMRING_CHECK_OFFSET(shmring_place, delivered, 8);
SHMRING_CHECK_OFFSET(shmring_place, lost, 16);
SHMRING_CHECK_OFFSET(shmring_place, skipped, 24);
SHMRING_CHECK_OFFSET(shmring_place, held, 32);
SHMRING_CHECK_OFFSET(shmring_place, next, 40);
SHMRING_CHECK_OFFSET(shmring_place, redelivered, 48);
SHMRING_CHECK_OFFSET(shmring_place, state, 128);
SHMRING_CHECK_OFFSET(shmring_place, joined_ns, 136);
SHMRING_CHECK_OFFSET(shmring_place, start_time, 144);
SHMRING_CHECK_OFFSET(shmring_place, pid, 152);
SHMRING_CHECK_OFFSET(shmring_place, flags, 156);
SHMRING_CHECK_OFFSET(shmring_place, label, 160);
SHMRING_CHECK_OFFSET(shmring_place, max_held, 224);
SHMRING_CHECK_OFFSET(shmring_place, group, 232);
SHMRING_STATIC_ASSERT(sizeof(shmring_place) == 256, "shmring_place");

SHMRING_CHECK_OFFSET(shmring_group, next, 0);
SHMRING_CHECK_OFFSET(shmring_group, events, 128);
SHMRING_CHECK_OFFSET(shmring_group, lost, 136);
SHMRING_CHECK_OFFSET(shmring_group, flags, 144);
SHMRING_CHECK_OFFSET(shmring_group, name, 152);
SHMRING_STATIC_ASSERT(sizeof(shmring_group) == 256, "shmring_group");

SHMRING_CHECK_OFFSET(shmring_entry, stamp, 0);
SHMRING_CHECK_OFFSET(shmring_entry, slot, 8);
SHMRING_CHECK_OFFSET(shmring_entry, pins, 16);
SHMRING_CHECK_OFFSET(shmring_entry, position, 24);
SHMRING_CHECK_OFFSET(shmring_entry, seq, 32);
SHMRING_CHECK_OFFSET(shmring_entry, timestamp_ns, 40);
SHMRING_CHECK_OFFSET(shmring_entry, rows, 48);
SHMRING_CHECK_OFFSET(shmring_entry, epoch, 56);
SHMRING_STATIC_ASSERT(sizeof(shmring_entry) == 64, "shmring_entry");

/* Outcomes of the functions of these headers; 0 is success. */
enum {
    SHMRING_OK = 0,
    SHMRING_FULL = 1,
    SHMRING_EMPTY = 2,
    SHMRING_TIMEOUT = 3,
    SHMRING_PRODUCER_EXISTS = 4,
    SHMRING_NO_PLACE = 5,
    SHMRING_NOT_READY = 6,
    SHMRING_FOREIGN = 7,
    SHMRING_OTHER_ABI = 8,
    SHMRING_TRUNCATED = 9,
    SHMRING_CORRUPT = 10,
    SHMRING_TOO_LARGE = 11,
    SHMRING_SYSTEM = 12,   /* errno says what */
    SHMRING_ENDED = 13,    /* the producer closed, and fewer frames are left than were asked for */
    SHMRING_FAILED = 14,   /* as ENDED, because of an error of the producer */
    SHMRING_DIED = 15,     /* as ENDED: the producer's process is gone, and closed nothing */
    SHMRING_HELD = 16,     /* the frames cannot come: the consumer itself holds the slots */
    SHMRING_NO_SHARE = 17, /* the other lossy consumers may hold all slots that the producer can do without */
    SHMRING_NO_GROUP = 18, /* all groups have members, and other names */
    SHMRING_OTHER_GROUP = 19 /* the group of that name has other flags */
};

#endif /* SHMRING_LAYOUT_H */
