"""No alert may be lost on its way to either output: held against the topics' own numbers."""

from pipeline.demo.alerts import Deliveries
from pipeline.demo.observed import Observed
from pipeline.demo.subscribers import SSE, WEBHOOK, Subscribers

BREAK_GLASS = ("break_glass", "did:pump")


def scene(*numbers: int, due: int = 9, routed: int = 9, before: int = 0) -> tuple[Observed, Subscribers]:
    """Topics that hold so many numbers of the party, and subscribers who have not heard of them."""
    observed = Observed()
    told = observed.told
    told.numbers, told.due, told.routed, told.before = set(numbers), due, routed, before
    return observed, Subscribers("whsec_QUJD")


def hear(subscribers: Subscribers, output: str, *numbers: int) -> None:
    for number in numbers:
        subscribers.inboxes[output].take(number)


def test_both_outputs_are_waited_for_up_to_what_was_there_when_it_began() -> None:
    observed, subscribers = scene(1, 2, routed=5)
    missing = Deliveries(observed, subscribers).missing(lambda: [BREAK_GLASS])
    assert missing() == "alerts of break_glass"
    observed.told.first_s[BREAK_GLASS] = 1.0
    assert missing() == "alerts to get the party's numbers"
    observed.told.due = 12  # a later alert is not waited for
    observed.told.routed = 9
    assert missing() == "2 alerts by demo-webhook, 2 alerts by demo-sse"
    observed.told.numbers.add(3)
    hear(subscribers, WEBHOOK, 1, 2)
    assert missing() == "2 alerts by demo-sse"
    hear(subscribers, SSE, 1, 2)
    assert missing() == ""


def test_what_comes_later_does_not_count() -> None:
    observed, subscribers = scene(1, 2)
    deliveries = Deliveries(observed, subscribers)
    hear(subscribers, WEBHOOK, 1, 2, 3)
    hear(subscribers, SSE, 1, 2)
    assert deliveries.missing(list)() == ""
    observed.told.numbers |= {3, 4}
    outcome = deliveries.outcome()
    assert outcome.to_json()["delivered"] == {WEBHOOK: 2, SSE: 2}
    assert (outcome.gaps, outcome.problems()) == (0, [])


def test_a_number_that_one_output_lacks_is_named_and_so_is_one_that_nobody_gave() -> None:
    observed, subscribers = scene(6, 7, 9, before=5)
    hear(subscribers, WEBHOOK, 6, 7, 8, 9)
    hear(subscribers, SSE, 6, 9)
    outcome = Deliveries(observed, subscribers).outcome()
    assert outcome.gaps == 3
    assert outcome.problems() == [
        "alerts: demo-sse lacks 2 numbers: 7, 8",
        "alerts: the party's topic leaves numbers out: 8",
    ]


def test_an_output_that_is_never_told_lacks_everything() -> None:
    observed, subscribers = scene(*range(1, 10))
    hear(subscribers, WEBHOOK, *range(1, 10))
    outcome = Deliveries(observed, subscribers).outcome()
    assert outcome.problems() == [
        "alerts: demo-sse lacks 9 numbers: 1, 2, 3, 4, 5, ...",
        "alerts: demo-sse was told of nothing",
    ]
    assert Deliveries(observed, subscribers).now() == {WEBHOOK: 9, SSE: 0}
