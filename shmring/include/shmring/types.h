/* SPDX-License-Identifier: Apache-2.0
 *
 * The structures that a program holds: its view of a block, its handle as a producer or a consumer, the
 * frames that it took, what it looked at. Programs may read the members that a comment here names; the others
 * belong to the functions, and may change with every release.
 */
#ifndef SHMRING_TYPES_H
#define SHMRING_TYPES_H

#include "layout.h"

/* A process's view of a block: its own copy of the geometry and its mappings. To read: geometry, generation,
 * created_ns. To set after shmring_map, if you like: name. */
typedef struct shmring_block {
    shmring_geometry geometry;
    uint8_t generation[16];
    uint64_t created_ns;
    const char *name; /* for the message of shmring_explain_writes; NULL: it names none */
    uint8_t *control; /* identity to entries */
    uint8_t *data;    /* the slots, mapped twice back to back, and the spare slots; NULL if not mapped */
    shmring_hot *hot;
    shmring_place *table;
    shmring_group *groups;
    uint8_t *entries;
    uint64_t *owners;
    uint32_t lost; /* pages were found missing: of this process, as everything here */
} shmring_block;

/* What a handle may write. */
enum {
    SHMRING_OBSERVE = 0, /* nothing */
    SHMRING_CONSUME = 1, /* all but the slots */
    SHMRING_PRODUCE = 2  /* everything */
};

/* A producer's handle. To read: count and slot of the open claim; head, next_seq, epoch, dropped, swaps. */
typedef struct shmring_producer {
    shmring_block *block;
    int lock_fd;
    uint64_t head;    /* next position to publish */
    uint64_t index;   /* its entry: head % slots */
    uint64_t limit;   /* positions below it may be claimed, as far as the last rescan knows */
    int marked_ahead; /* the entry of position head is marked, though no claim is open */
    uint64_t gate;    /* lowest cursor found by the last rescan, UINT64_MAX if nobody gates */
    uint64_t claimed;
    uint64_t join_count; /* this and active as the last rescan found them */
    uint64_t active;
    uint64_t next_seq;
    uint64_t epoch;
    uint64_t dropped;
    uint64_t swaps;
    uint64_t count;      /* frames of the open claim, 0 if none is open */
    uint64_t slot;       /* the first slot of the open claim; what shmring_claim claimed follows it */
    uint32_t *slot_of;   /* entry -> slot: the permutation, in memory that nobody else can damage */
    uint32_t *entry_of;  /* slot -> entry. Behind the entries: the slots that no entry has, the spares */
    uint64_t next_spare; /* of the spares, the one to try first */
    int exceeds_cache;   /* the ring is larger than the last-level cache */
    uint64_t warm_slots; /* that half the cache holds */
    int reuse_warm;      /* take the slot freed last: the ring exceeds the cache, nobody wants history */
    int lossy_active;
    uint32_t groups;                   /* bit i: group i has members */
    int times_copies;                  /* the ring takes half the last-level cache, or more */
    int streaming_wins;                /* the last trial's outcome */
    uint64_t copies;                   /* large copies so far */
    uint64_t trial_began;              /* copies before the last trial */
    uint64_t trial_every;              /* copies from it to the next one */
    int64_t copy_ns[2];                /* through the cache, past it: in the last trial */
    uint64_t saved[SHMRING_MAX_BATCH]; /* stamps as found by the claim */
} shmring_producer;

/* Where a consumer begins: at the oldest frame still there, at the newest one, at the next to come. */
enum { SHMRING_START_OLDEST = 0, SHMRING_START_NEWEST = 1, SHMRING_START_NEXT = 2 };

/* Frames that the consumer still holds: behind its cursor, or pinned. To read: position, count, slot. */
typedef struct shmring_hold {
    uint64_t position;
    uint64_t count;
    uint64_t slot; /* of the first frame; the others follow in memory */
    int pinned;
    int owned; /* kept by the owner words of a group */
    struct shmring_hold *next_spare;
} shmring_hold;

/* A consumer's handle. To read: place, next, delivered, lost, skipped, held, max_held, slots_taken. To set
 * after the join: awaits_takeover. */
typedef struct shmring_consumer {
    shmring_block *block;
    int lock_fd;
    unsigned place;
    int lossless;
    int left;        /* left the ring; what is still held stays pinned */
    uint64_t bit;    /* 1 << place */
    uint64_t next;   /* next position to read */
    uint64_t index;  /* its entry */
    uint64_t head;   /* as last seen */
    uint64_t cursor; /* as last stored (lossless) */
    uint64_t expected_seq;
    uint64_t first_uncounted; /* positions below it are delivered, or counted as lost or skipped */
    uint64_t jumped_to;       /* by latest or windows: what lies below was skipped on purpose */
    uint64_t delivered;
    uint64_t lost;
    uint64_t skipped;
    uint64_t held;         /* frames in live holds */
    uint64_t pinned_slots; /* distinct slots with our pin, or that a member has by its owner word */
    uint64_t max_held;     /* of them, in a lossy consumer */
    shmring_hold *older;   /* lossless: the last two holds are kept by the lagging cursor, not by pins */
    shmring_hold *newer;
    shmring_hold *spare;
    uint32_t *pin_counts;  /* per slot: our holds that need the pin, or a member's holds */
    uint32_t *slots_taken; /* of the frames being taken */
    int member;            /* of group */
    unsigned group;
    int at_end;           /* it has come to the end of the stream, and said so */
    uint64_t events_seen; /* of the group: nothing is put up again since */
    uint64_t takes;
    uint64_t redelivered;
    int awaits_takeover; /* a producer that failed or died is no end: another may follow */
} shmring_consumer;

/* What a take says about its frames. The arrays are the caller's, with room for the frames asked for;
 * any of them but seqs may be NULL. */
typedef struct shmring_taken {
    uint64_t *seqs;
    int64_t *timestamps_ns;
    uint64_t *rows;
    uint8_t *metas;
    uint64_t count;
    uint64_t lost;   /* frames lost just before or between these; 0 in a group */
    uint64_t epoch;  /* of the last frame */
    int interrupted; /* more frames were there, but not adjacent in memory */
    int redelivered; /* a member that died had it before */
    int scattered;   /* the slots are not adjacent: consumer->slots_taken names them */
    shmring_hold *hold;
} shmring_taken;

/* What a block says about the ring and its producer. */
typedef struct shmring_ring_status {
    uint64_t head;
    uint64_t next_seq;
    uint64_t epoch;
    uint64_t start_time;
    uint64_t dropped;
    uint64_t swaps;
    uint64_t active;
    uint32_t producer_state;
    uint32_t producer_pid;
    char failure[SHMRING_FAILURE_BYTES]; /* empty unless producer_state is FAILED */
} shmring_ring_status;

/* What a block says about the consumer at one place. */
typedef struct shmring_place_status {
    uint64_t state;
    uint64_t cursor;
    uint64_t delivered;
    uint64_t lost;
    uint64_t skipped;
    uint64_t held;
    uint64_t next;
    uint64_t joined_ns;
    uint64_t start_time;
    uint64_t pins; /* slots with this consumer's bit */
    uint64_t max_held;
    uint64_t redelivered;
    uint32_t pid;
    uint32_t flags;
    uint32_t group;
    uint32_t alive; /* the owner, as far as shmring_look_at_places asked the kernel */
    char label[SHMRING_LABEL_BYTES];
} shmring_place_status;

#endif /* SHMRING_TYPES_H */
