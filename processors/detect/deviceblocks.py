"""The end of a block: every signal's samples, the relations between signals, and the device's own course."""

from processors.detect.blocks import BLOCK, LEAST, LEVEL, judge
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

ENDED_BY_SAMPLES = (BOUNDS, STUCK, UNIT)
_CALM_BLOCKS = {JITTER: 18, STEP: 16, DRIFT: 8, NOISE: 6, RATE: 6, REPLAY: 6}
"""Blocks without further evidence that end an episode; others 4. Jitter is judged every eighth block only;
a step is not over before it might have gone back."""


def end_block(scene: Scene, noise: list[NoiseBlock] | None = None) -> None:
    """Judge what the last eight events of a device say together, and begin anew.

    Prints of noise go to `noise`; where it is None none are taken.
    """
    state, config = scene.state, scene.config
    if noise is not None:
        take_noise(scene, noise)
    for code, signal in state.signals.items():
        samples = signal.samples
        if len(samples) >= LEAST:
            limits = config.signals[code].course
            if limits is not None:
                for rule, score in judge(signal.track, samples, limits):
                    _raise_block(scene, signal, rule, score)
            signal.carried = len(samples) != BLOCK + 1
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
        score = judge_relation(track, [each.track[LEVEL] for each in signals], relation)
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
