"""The questions of the access scene, and the answers that the shipped policies have for them.

docs/access.md says why; `processors/access/hospital.cedar` is what decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.decisions import DecisionReason, Effect


@dataclass(frozen=True, slots=True)
class Step:
    """One question of the scene and the answer that the policies have for it."""

    title: str
    subject: str
    action: str
    effect: Effect
    reason: DecisionReason
    purpose: str = "TREAT"
    approvals: tuple[str, ...] = ()
    is_far: bool = False
    """Asked at the pump of the other ward."""


LOGIN = Step("nurse Nora logs in on her ward", "Nora", "login", Effect.PERMIT, DecisionReason.POLICY)
BROKEN_GLASS = Step(
    "Farid breaks the glass", "Farid", "login", Effect.PERMIT, DecisionReason.BREAK_GLASS, purpose="BTG"
)
STEPS: Sequence[Step] = (
    LOGIN,
    Step("Nora logs in on another ward", "Nora", "login", Effect.DENY, DecisionReason.NO_PERMIT, is_far=True),
    Step(
        "technician Tom configures the pump",
        "Tom",
        "configure",
        Effect.PERMIT,
        DecisionReason.POLICY,
        purpose="HSYSADMIN",
    ),
    Step(
        "Nora overrides a limit, one approval missing",
        "Nora",
        "override",
        Effect.DENY,
        DecisionReason.APPROVALS_MISSING,
        approvals=("Carla",),
    ),
    Step(
        "Nora overrides it, charge nurse and pharmacist sign",
        "Nora",
        "override",
        Effect.PERMIT,
        DecisionReason.POLICY,
        approvals=("Carla", "Paul"),
    ),
    Step("physician Farid of another ward logs in", "Farid", "login", Effect.DENY, DecisionReason.NO_PERMIT),
    BROKEN_GLASS,
)
AFTERWARDS = Step("the stolen card asks again", "Nora", "login", Effect.DENY, DecisionReason.SUBJECT_ENDED)
