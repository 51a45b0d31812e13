"""The reader of ordering labels, on sources that break each rule."""

import pytest

from source_labels import Label, all_labels, documented_edges, statements

GOOD = """
#define POINTER(x) \\
    ((x)->head)
static inline void
publish(ring *r, uint64_t p)
{
    int before = 0; /* [acquire ready] belongs to nothing */
    /* The payload before
     * the head. [release
     * head] */
    shmring_store_release(&r->head, p);
    const uint64_t claimed = other(
        shmring_load_relaxed(&r->claimed)); /* [relaxed: mine alone] */
    shmring_fence_seq_cst(); // [fence publish | sleep, join] the head before a look
    for (int i = 0; i < 2; i++)
        if (shmring_load_acquire(&at(r, i)->gate) > p && /* [acquire gate] */
            shmring_load_relaxed(&r->tail) > p) { /* [relaxed: a hint only] */
            puts("shmring_load_relaxed(;{ /* not code */");
        }
}
"""


def test_labels_belong_to_their_statements() -> None:
    found = list(statements("good.h", GOOD))
    assert [statement.where for statement in found] == ["good.h:11", "good.h:12", "good.h:14", "good.h:15"]
    assert [statement.labels for statement in found] == [
        [Label("release", "head")],
        [Label("relaxed")],
        [Label("fence", "publish", ("sleep", "join"))],
        [Label("acquire", "gate"), Label("relaxed")],
    ]
    assert [list(statement.problems()) for statement in found] == [[]] * 4
    assert len(all_labels(GOOD)) == 6


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("shmring_store_release(a, 1);", "release access of a without"),
        ("shmring_store_release(a, 1); /* [acquire a] */", "release access of a without"),
        ("shmring_store_release(&h->a, b); /* [release b] */", "release access of &h->a without"),
        ("shmring_store_release(a, 1); /* [relaxed: it is not] */", "release access of a without"),
        ("b = shmring_load_acquire(a) + shmring_load_acquire(c); /* [acquire a] */", "access of c without"),
        ("/* [relaxed: too far above] */\n\nshmring_load_relaxed(a);", "relaxed access of a without"),
        ("b(); /* [relaxed: another line's] */\nshmring_load_relaxed(a);", "relaxed access of a without"),
        ("shmring_load_acquire(a); /* [acquire] */", "malformed label [acquire]"),
        ("shmring_load_relaxed(a); /* [relaxed] */", "malformed label [relaxed]"),
        ("shmring_fence_seq_cst(); /* [fence mark | ] */", "malformed label [fence mark | ]"),
        ("shmring_fence_acquire(); /* [acquire memory] */", "access of memory without"),
    ],
)
def test_each_broken_rule_is_told(line: str, told: str) -> None:
    (statement,) = statements("bad.h", "void f(void)\n{\n" + line + "\n}\n")
    assert told in " ".join(statement.problems())


def test_edges() -> None:
    assert Label("release", "head").edges == Label("acquire", "head").edges == {("head",)}
    assert Label("fence", "swap", ("pin", "join")).edges == {("pin", "swap"), ("join", "swap")}
    assert Label("fence", "pin", ("swap",)).edges == {("pin", "swap")}
    assert Label("relaxed").edges == set()


def test_documented_edges() -> None:
    table = """
    | word | orders |
    |---|---|
    | `head` | a frame before the word |

    | fence | meets | one side |
    |---|---|---|
    | publish | sleep | sleepers |

    | other | tables |
    |---|---|
    | say | nothing |
    """
    assert documented_edges(table) == {("head",), ("publish", "sleep")}
