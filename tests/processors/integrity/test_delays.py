"""What must not last, by a clock that the test holds."""

from processors.integrity.delays import KEPT_S, Growth, Standing, Unanchored


def test_a_condition_counts_from_its_beginning() -> None:
    standing = Standing()
    assert standing.held_s("a", 10.0) == 0
    assert standing.held_s("a", 14.0) == 4
    standing.end("a")
    assert standing.held_s("a", 20.0) == 0
    assert len(standing) == 1


def test_a_shard_is_left_out_when_others_go_on() -> None:
    growth = Growth()
    growth.grew("other", 9.0)
    assert not growth.is_left_out("mine", 10.0, 30.0, 8.0, 60.0), "nobody has grown since"
    growth.grew("mine", 31.0)
    growth.grew("other", 32.0)
    assert not growth.is_left_out("mine", 10.0, 39.0, 8.0, 60.0), "the sealer has only just come back"
    assert growth.is_left_out("mine", 10.0, 40.0, 8.0, 60.0)


def test_a_sealer_that_is_away_is_told_after_an_outage() -> None:
    growth = Growth()
    assert not growth.is_left_out("mine", 10.0, 69.0, 8.0, 60.0)
    assert growth.is_left_out("mine", 10.0, 70.0, 8.0, 60.0)


def test_growth_is_forgotten_in_time() -> None:
    growth = Growth()
    for second in range(1000):
        growth.grew("other", float(second))
    assert len(growth._grown) == KEPT_S + 1


def test_the_oldest_size_without_an_anchor_counts() -> None:
    unanchored = Unanchored()
    assert unanchored.waits_s(100.0) == 0
    for size, at_s in ((5, 10.0), (5, 11.0), (9, 20.0), (12, 25.0)):
        unanchored.grown(size, at_s)
    assert (unanchored.waits_s(30.0), unanchored.oldest_size) == (20.0, 5)
    unanchored.anchored(9)
    assert (unanchored.waits_s(30.0), unanchored.oldest_size) == (5.0, 12)
    unanchored.anchored(4)
    assert unanchored.oldest_size == 12
    unanchored.anchored(100)
    assert (unanchored.waits_s(30.0), unanchored.oldest_size) == (0, 0)
