"""The reader of ordering labels, on sources that break each rule."""

import pytest

from source_labels import Label, all_labels, documented_edges, statements

RELEASE = Label("R1", "->", ("A1", "A4"))
GOOD = """
#define POINTER(x) \\
    ((x)->head)
static inline void
publish(ring *r, uint64_t p)
{
    int before = 0; /* [A9 <- R9] belongs to nothing */
    /* The payload before
     * the head. [R1 -> A1,
     * A4] */
    shmring_store_release(&r->head, p);
    const uint64_t claimed = other(
        shmring_load_relaxed(&r->claimed)); /* [relaxed: mine alone] */
    shmring_fence_seq_cst(); // [F1 <-> F2] and the acquire side [A3 <- R3]
    for (int i = 0; i < 2; i++)
        if (shmring_load_acquire(&r->gate) > p && /* [A2 <- R2] */
            shmring_load_relaxed(&r->tail) > p) { /* [relaxed: a hint only] */
            puts("shmring_load_relaxed(;{ /* not code */");
        }
}
"""


def test_labels_belong_to_their_statements() -> None:
    found = list(statements("good.h", GOOD))
    assert [statement.where for statement in found] == ["good.h:11", "good.h:12", "good.h:14", "good.h:15"]
    assert [statement.labels for statement in found] == [
        [RELEASE],
        [Label("-")],
        [Label("F1", "<->", ("F2",)), Label("A3", "<-", ("R3",))],
        [Label("A2", "<-", ("R2",)), Label("-")],
    ]
    assert [list(statement.problems()) for statement in found] == [[]] * 4
    assert len(all_labels(GOOD)) == 7


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("shmring_store_release(a, 1);", "release access without"),
        ("shmring_store_release(a, 1); /* [A1 <- R1] */", "release access without"),
        ("shmring_store_release(a, 1); /* [relaxed: it is not] */", "release access without"),
        ("b = shmring_load_acquire(a) + shmring_load_acquire(c); /* [A1 <- R1] */", "acquire access without"),
        ("/* [relaxed: too far above] */\n\nshmring_load_relaxed(a);", "relaxed access without"),
        ("b(); /* [relaxed: another line's] */\nshmring_load_relaxed(a);", "relaxed access without"),
        ("shmring_load_acquire(a); /* [A1 -> R1] */", "A1 must point <-"),
        ("shmring_load_relaxed(a); /* [relaxed] */", "malformed label [relaxed]"),
        ("shmring_fence_seq_cst(); /* [F1 <-> ] */", "malformed label [F1 <-> ]"),
    ],
)
def test_each_broken_rule_is_told(line: str, told: str) -> None:
    (statement,) = statements("bad.h", "void f(void)\n{\n" + line + "\n}\n")
    assert told in " ".join(statement.problems())


def test_edges() -> None:
    assert RELEASE.edges == {("R1", "A1"), ("R1", "A4")}
    assert Label("A4", "<-", ("R1",)).edges == {("R1", "A4")}
    assert Label("F2", "<->", ("F1",)).edges == Label("F1", "<->", ("F2",)).edges == {("F1", "F2")}


def test_documented_edges() -> None:
    table = """
    | release | acquire | what |
    |---|---|---|
    | R1 | A1, A4 | head |
    | `F2` | `F1` | sleepers |
    | R2 | see A2 | prose |
    R3 -> A3
    """
    assert documented_edges(table) == {("R1", "A1"), ("R1", "A4"), ("F1", "F2")}
