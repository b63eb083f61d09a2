"""Faults of correlate, route, deliver, their receivers and their broker; and schedules of them.

`NOTIFY_FAULTS` is the table. Each function returns how often it struck; what lasts, `NotifyWorld.heal` ends.
"""

import time
from collections.abc import Callable, Sequence
from random import Random

from tests.faults.machine.ledger import Violation
from tests.faults.machine.notify.receivers import SseReceiver, WebhookReceiver
from tests.faults.machine.notify.world import SESSION_S, NotifyWorld

SETTLE_S = 90.0
"""Groups are open for 10 s, and who was away is tried again after up to 10 s."""
MOST_FAULTS = 3
Inject = Callable[[NotifyWorld, Random], int]


def _kill(stage: str) -> Inject:
    def inject(world: NotifyWorld, rng: Random) -> int:
        """SIGKILL at random moments under load."""
        killed = 0
        for _ in range(rng.randint(1, 3)):
            time.sleep(rng.uniform(0.1, 2.0))
            killed += world.workers.kill(stage)
        return killed

    return inject


def _pause(stage: str) -> Inject:
    def inject(world: NotifyWorld, rng: Random) -> int:
        """SIGSTOP and SIGCONT, within the session or past it: nobody is there to take over."""
        worker = world.workers.worker(stage)
        if worker is None:
            return 0
        worker.pause()
        time.sleep(rng.uniform(0.1, 1.5 * SESSION_S))
        worker.resume()
        return 1

    return inject


def zombie_route(world: NotifyWorld, rng: Random) -> int:
    """Route stands still until another slot has taken over, then it goes on as if nothing had been."""
    world.workers.want("route", 1)
    world.wait_for(lambda: world.workers.says("route", 1).startswith("running"))
    zombie = world.workers.worker("route")
    if zombie is None:
        return 0
    time.sleep(rng.uniform(0.0, 0.5))
    zombie.pause()
    time.sleep(SESSION_S)
    world.wait_for(lambda: "alerts told" in world.workers.says("route", 1))
    time.sleep(rng.uniform(0.0, 1.0))
    if rng.random() < 0.4:
        # Whoever recovers now meets the zombie's open transaction.
        world.workers.kill("route", 1)
    zombie.resume()
    time.sleep(rng.uniform(0.3, 1.0))
    return 1


def receiver_down(world: NotifyWorld, rng: Random) -> int:
    """A receiver is away, for a while or through all that follows; its alerts wait for it."""
    receivers: list[WebhookReceiver | SseReceiver] = [*world.hooks.values(), world.sse]
    receiver = rng.choice(receivers)
    receiver.down()
    time.sleep(rng.uniform(0.3, 3.0))
    if rng.random() < 0.5:
        receiver.up()
    return 1


def receiver_errors(world: NotifyWorld, rng: Random) -> int:
    """A receiver fails, or takes what it is sent and says that it failed; also through all that follows."""
    hook = rng.choice(list(world.hooks.values()))
    hook.mode = rng.choice(("errors", "loses_answers"))
    time.sleep(rng.uniform(0.5, 3.0))
    if rng.random() < 0.5:
        hook.mode = ""
    return 1


def receiver_refuses(world: NotifyWorld, rng: Random) -> int:
    """A receiver will not take one alert: for long, and it is given up, or for a moment."""
    rng.choice(list(world.hooks.values())).mode = "refuses"
    time.sleep(rng.uniform(1.0, 10.0))
    return 1


def pause_notify_broker(world: NotifyWorld, rng: Random) -> int:
    """SIGSTOP of the broker, shorter or longer than sessions."""
    world.pause_broker()
    time.sleep(rng.uniform(0.2, 2 * SESSION_S))
    world.resume_broker()
    return 1


NOTIFY_FAULTS: dict[str, Inject] = {
    "kill_correlate": _kill("correlate"),
    "kill_route": _kill("route"),
    "kill_deliver": _kill("deliver"),
    "pause_correlate": _pause("correlate"),
    "pause_route": _pause("route"),
    "pause_deliver": _pause("deliver"),
    "zombie_route": zombie_route,
    "receiver_down": receiver_down,
    "receiver_errors": receiver_errors,
    "receiver_refuses": receiver_refuses,
    "pause_notify_broker": pause_notify_broker,
}
TELL_AGAIN = frozenset({"kill_correlate", "pause_correlate", "pause_notify_broker"})
"""After these, correlate may tell of a record by another message as well."""


def draw(rng: Random) -> list[str]:
    """Draw one to three kinds of fault."""
    return rng.sample(list(NOTIFY_FAULTS), rng.randint(1, MOST_FAULTS))


def run_notify_schedule(world: NotifyWorld, rng: Random, kinds: Sequence[str] = ()) -> list[Violation]:
    """Run one schedule, with the given kinds of fault instead of drawn ones where there are any."""
    drawn = draw(rng)
    world.chosen = list(kinds) or drawn
    world.traffic.rng = Random(rng.getrandbits(32))
    committed = world.traffic.committed
    world.traffic.begin(rng.uniform(100, 300))
    world.wait_for(lambda: world.traffic.committed > committed)
    time.sleep(rng.uniform(0.1, 1.0))
    for kind in world.chosen:
        world.count(kind, NOTIFY_FAULTS[kind](world, rng))
        time.sleep(rng.uniform(0.1, 0.5))
    world.traffic.end()
    world.heal()
    world.settle(SETTLE_S)
    return world.judge(is_calm=not TELL_AGAIN & set(world.chosen))
