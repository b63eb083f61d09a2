"""Two implementations that share no code give one verdict, and one first broken step, on every file."""

import base64
import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.verify import verify
from schemas.errors import FormatError
from schemas.evidence import parse_evidence
from schemas.trust import parse_trust
from tests.kit.cases import Case, all_cases

DOCS = Path(__file__).parents[2] / "docs"
SOURCE = DOCS / "verifier"
FILES = ("verify.mjs", "schemas.mjs", "cli.mjs", "package.json")
NODE_MAJOR = 20
INSTALL = ("install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--prefer-offline")
HOLDS = ""


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is not on the PATH: this test needs Node.js {NODE_MAJOR} or later, with npm")
    return found


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command line of the JavaScript verifier, installed in a folder of its own."""
    node, npm = tool("node"), tool("npm")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.lstrip("v").split(".")[0]) < NODE_MAJOR:
        pytest.fail(f"Node.js {version.strip()} is too old: this test needs {NODE_MAJOR} or later")
    folder = tmp_path_factory.mktemp("verifier")
    for name in FILES:
        shutil.copy(SOURCE / name, folder)
    run = subprocess.run([npm, *INSTALL], cwd=folder, capture_output=True, text=True, check=False)
    assert run.returncode == 0, f"npm could not install what {SOURCE / 'package.json'} names:\n{run.stderr}"
    return [node, str(folder / "cli.mjs")]


def by_python(case: Case) -> str:
    """The first broken step, or HOLDS."""
    try:
        trust = parse_trust(case.trust)
    except FormatError:
        return "trust file"
    try:
        evidence = parse_evidence(case.evidence)
    except FormatError:
        return "file"
    broken = verify(evidence, trust).broken
    return HOLDS if broken is None else broken.name


def by_javascript(verifier: Sequence[str], cases: Sequence[Case]) -> list[str]:
    """The same, of one process that is given all files."""
    pairs = ({"evidence": each.evidence, "trust": each.trust} for each in cases)
    lines = (json.dumps({k: base64.b64encode(v).decode() for k, v in pair.items()}) for pair in pairs)
    command = [*verifier, "--batch"]
    run = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    verdicts = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(verdicts) == len(cases)
    assert all(verdict["holds"] is (verdict["broken"] is None) for verdict in verdicts)
    return [HOLDS if verdict["holds"] else verdict["broken"] for verdict in verdicts]


def test_one_verdict_on_every_file(verifier: list[str]) -> None:
    cases = all_cases()
    theirs = by_javascript(verifier, cases)
    ours = [by_python(case) for case in cases]
    differing = [
        f"{case.name}: Python {python or 'holds'!r}, JavaScript {javascript or 'holds'!r}"
        for case, python, javascript in zip(cases, ours, theirs, strict=True)
        if python != javascript
    ]
    assert not differing, f"{len(differing)} of {len(cases)} differ:\n" + "\n".join(differing)
    unexpected = [
        f"{case.name}: {python or 'holds'!r}, made for {case.expected or 'holds'!r}"
        for case, python in zip(cases, ours, strict=True)
        if case.expected not in (None, python)
    ]
    assert not unexpected, "\n".join(unexpected)
    print(f"\n{len(cases)} files, one verdict each: {dict(Counter(ours))}")


def test_example_of_the_document_holds(verifier: list[str], tmp_path: Path) -> None:
    """As an auditor runs it: two files, an exit code, a sentence."""
    text = (DOCS / "formats.md").read_text(encoding="utf-8")
    for name in ("trust", "evidence"):
        found = re.search(rf"^```json {name}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        assert found is not None
        (tmp_path / name).write_text(found[1], encoding="utf-8")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*verifier, *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    good = run("evidence", "--trust", "trust")
    assert good.returncode == 0, good.stderr
    assert good.stdout.startswith("HOLDS")
    assert "signed by did:key:z6MkvRXNYcE7MMduynWTgeKbDaT1iijDSC8pZqXZc8rHPrf2" in good.stdout
    assert "completeness" in good.stdout
    verdict = json.loads(run("evidence", "--trust", "trust", "--json").stdout)
    assert verdict["holds"]
    assert verdict["found"]["isLedgerKnown"] is False
    changed = (tmp_path / "evidence").read_text(encoding="utf-8").replace('"offset": 0', '"offset": 1', 1)
    (tmp_path / "changed").write_text(changed, encoding="utf-8")
    broken = run("changed", "--trust", "trust")
    assert broken.returncode == 1
    assert broken.stdout.startswith('BROKEN at "record"')
    for arguments in (
        ("evidence",),
        ("missing", "--trust", "trust"),
        ("evidence", "--trust", "trust", "--no"),
    ):
        refused = run(*arguments)
        assert refused.returncode == 2, arguments
        assert refused.stderr


def test_verifier_is_small_enough_to_be_read() -> None:
    assert len((SOURCE / "verify.mjs").read_text(encoding="utf-8").splitlines()) < 400
