"""The lines of the table "What happens when". Each is claimed by a test with @pytest.mark.event(line)."""

CONSUMER_KILLED = "a consumer is killed at any instruction, holding frames or not"
PRODUCER_KILLED = "the producer is killed at any instruction"
EVERYONE_KILLED = "everyone is killed"
PRODUCER_RAISES = "the producer raises inside claim()"
DRIVER_RAISES = "the producer raises inside buffers()"
PRODUCER_CLOSES = "the producer closes"
PRODUCER_FAILS = "the producer ends by an exception"
PRODUCER_ABANDONS = "the producer abandons the ring"
HELD_FOR_AN_HOUR = "a consumer holds a frame for an hour"
ALL_SLOTS_HELD = "all slots are held"
HELD_BY_ITSELF = "a consumer waits for a frame that cannot come because it holds the slots itself"
ARRAY_KEPT = "the producer keeps slot.array after publishing"
WRITE_TO_A_FRAME = "a program writes to a frame's read-only memory"
LOSSLESS_STALLS = "a lossless consumer stalls"
LOSSY_LAPPED = "a lossy consumer is lapped"
TWO_PRODUCERS = "two producers"
WRONG_SHAPE = "the wrong shape or dtype is put"
BAD_NAME = "the name is taken, missing, another program's block, truncated, of another version, half created"
NO_SPACE = "/dev/shm is too small"
CTRL_C = "Ctrl-C in any wait"
CLOSE_WITH_VIEWS = "close() while views live"
START_METHODS = "fork, spawn, forkserver, subprocess, threads, free-threaded Python"
PAGE_IS_SLOW = "a page of `shmring view` is slow, frozen or hidden"
PAGE_LOSES_ITS_RING = "the ring that a page shows closes, dies, is cut or replaced"
OTHER_ACCOUNT = "a user attaches from another account"

EVENTS = (
    CONSUMER_KILLED,
    PRODUCER_KILLED,
    EVERYONE_KILLED,
    PRODUCER_RAISES,
    DRIVER_RAISES,
    PRODUCER_CLOSES,
    PRODUCER_FAILS,
    PRODUCER_ABANDONS,
    HELD_FOR_AN_HOUR,
    ALL_SLOTS_HELD,
    HELD_BY_ITSELF,
    ARRAY_KEPT,
    WRITE_TO_A_FRAME,
    LOSSLESS_STALLS,
    LOSSY_LAPPED,
    TWO_PRODUCERS,
    WRONG_SHAPE,
    BAD_NAME,
    NO_SPACE,
    CTRL_C,
    CLOSE_WITH_VIEWS,
    START_METHODS,
    PAGE_IS_SLOW,
    PAGE_LOSES_ITS_RING,
    OTHER_ACCOUNT,
)
