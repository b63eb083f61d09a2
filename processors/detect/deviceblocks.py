"""The end of a block: every signal's samples, the relations between signals, and the device's own course."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import starmap

from processors.detect.blocks import BLOCK, LEAST, Block, Broken, Track, judge, level_of
from processors.detect.findings import Scene, close, raise_or_update
from processors.detect.noiseprints import take_noise
from processors.detect.relations import RelationLimits, judge_relation, new_relation
from processors.detect.rules import (
    BOUNDS,
    CLOCK,
    DEVICE,
    DRIFT,
    IMPLAUSIBLE,
    JITTER,
    NOISE,
    RATE,
    REPLAY,
    REPORTING,
    STEP,
    STUCK,
    UNIT,
)
from processors.detect.samples import unit_of
from processors.detect.telemetry_state import OFF, SignalState
from schemas.mdc import label
from schemas.noise import NoiseBlock
from schemas.records import Finding

MANY = 96
"""From so many blocks on it costs less to judge them together."""

ENDED_BY_SAMPLES = (BOUNDS, STUCK, UNIT)
_CALM_BLOCKS = {JITTER: 18, STEP: 16, DRIFT: 8, NOISE: 6, RATE: 6, REPLAY: 6}
"""Blocks without further evidence that end an episode; others 4. Jitter is judged every eighth block only;
a step is not over before it might have gone back."""


def end_blocks(
    ended: Sequence[tuple[int, Scene]], noise: list[NoiseBlock] | None = None
) -> Iterator[tuple[int, Finding]]:
    """Judge what the last eight events of each of these devices say together, and begin anew.

    Each comes with the number of the event that ended it; yields findings with these numbers. Prints of noise
    go to `noise`; where it is None none are taken.
    """
    if noise is not None:
        take_noise([scene for _, scene in ended], noise)
    blocks = [
        Block(signal.track, signal.samples, course)
        for _, scene in ended
        for code, signal in scene.state.signals.items()
        if len(signal.samples) == BLOCK + 1 and (course := scene.config.signals[code].course) is not None
    ]
    judged = iter(_judge_all(blocks))
    for number, scene in ended:
        _end_block(scene, judged)
        for finding in scene.findings:
            yield number, finding


def _judge_all(blocks: Sequence[Block]) -> Iterable[tuple[Track, Broken]]:
    if len(blocks) < MANY:
        return starmap(judge, blocks)
    # Here, since a process that meets few at a time shall not pay for numpy: 0.1 s and 20 MB.
    from processors.detect.manyblocks import judge_many

    return judge_many(blocks)


def _end_block(scene: Scene, judged: Iterator[tuple[Track, Broken]]) -> None:
    """Judge one device; `judged` are its whole blocks, in the order of its signals, and those of others."""
    state, config = scene.state, scene.config
    if state.layout is not None:
        state.layout.write_back(state.last_offset)
    for code, signal in state.signals.items():
        samples = signal.samples
        if len(samples) >= LEAST:
            limits = config.signals[code].course
            whole = len(samples) == BLOCK + 1
            if limits is not None:
                signal.track, broken = next(judged) if whole else judge(signal.track, samples, limits)
                for rule, score in broken:
                    _raise_block(scene, signal, rule, score)
            signal.carried = not whole
            del samples[:-1]
        else:
            signal.carried = True
    for relation in config.relations:
        _relate(scene, relation)
    fault, factor = state.course.block_end(state.events, config.course)
    if fault:
        raise_or_update(scene, DEVICE, CLOCK, state.first_offset, 1.0, other=fault)
    if factor != 1.0:
        ratio = config.course.rate_ratio
        raise_or_update(
            scene,
            DEVICE,
            REPORTING,
            state.first_offset,
            max(factor, 1 / factor) / ratio,
            limit=f"{ratio:g} times",
            other="more often" if factor > 1 else "less often",
        )
    if state.episodes:
        _calm_down(scene)
    state.events = 0


def _raise_block(scene: Scene, signal: SignalState, rule: int, score: float) -> None:
    code = signal.code
    limits = scene.config.signals[code]
    course = limits.course
    if course is None or (rule in (STEP, DRIFT, RATE) and (code, UNIT) in scene.state.episodes):
        return  # told already: the level moved because the unit did
    if rule == STEP and any((code, other) in scene.state.episodes for other in (RATE, DRIFT)):
        return  # the jump into it, or the end of a drift, is told already
    limit = ""
    if rule == RATE:
        limit = f"{course.max_change:g}{unit_of(code)}"
    elif rule == STEP:
        limit = f"{course.step:g}{unit_of(code)}" if course.step else "its usual moves"
    elif rule == NOISE:
        limit = f"{course.ratio_twice:g}"
    raise_or_update(scene, code, rule, scene.state.first_offset, score, limit=limit)


def _relate(scene: Scene, relation: RelationLimits) -> None:
    signals = []
    for code in relation.codes:
        signal = scene.state.signals.get(code)
        if signal is None or signal.run == OFF:
            return
        signals.append(signal)
    score = 0.0
    code = relation.codes[0]
    if not any(each.carried for each in signals):
        track = scene.state.relations.get(code)
        if track is None:
            track = scene.state.relations[code] = new_relation()
        score = judge_relation(track, [level_of(each.track) for each in signals], relation)
    if relation.kind == "mean" and scene.config.signals[code].course is None:
        mean, high, low = (each.last for each in signals)
        # A mean outside its ends is wrong by any amount; those of one measurement come together.
        if not low <= mean <= high:
            score = max(score, 2.0)
    if score > 1.0:
        others = " and ".join(label(each) for each in relation.codes[1:])
        limit = f"{relation.tolerance:g}{unit_of(code)}"
        first_offset = scene.state.first_offset
        raise_or_update(scene, code, IMPLAUSIBLE, first_offset, score, limit=limit, other=others)


def _calm_down(scene: Scene) -> None:
    """Count this block for every open episode that blocks end; fresh evidence has set its count to 0."""
    ended = []
    for (code, rule), episode in scene.state.episodes.items():
        if rule in ENDED_BY_SAMPLES:
            continue
        episode.calm += 1
        if episode.calm > _CALM_BLOCKS.get(rule, 4):
            ended.append((code, rule))
    for code, rule in ended:
        close(scene, code, rule)
