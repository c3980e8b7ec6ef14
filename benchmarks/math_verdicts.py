"""Verdicts on math answers: ours, math-verify's, and those of graders that training frameworks ship.

    python benchmarks/math_verdicts.py [--json PATH]

Two sets of pairs of a gold and another answer, each labelled equal or not: those of math-verify's own tests that state
an answer (rather than hide it in prose), and those written for this project (`tests/math_pairs.py`). Every grader gets
the bare answers, except for "text as given", which gets the whole texts. Graders other than ours and math-verify are
re-implementations from what is known of their rules (`benchmarks/math_rules.py`), not their code. Times are wall clock
for one pair, everything imported and started beforehand, nothing remembered from earlier pairs.

Needs: pip install "rfenvs[math]", and the public pairs under RFENVS_TEST_DATA.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import math_rules as rules
from benchmarks.common import HARDWARE, ROOT, markdown_table
from rfenvs.graders.math_compare import Outcome, compare
from tests.math_pairs import negatives, positives

DATA = Path(os.environ.get("RFENVS_TEST_DATA", ROOT.parent / "shared" / "data")) / "math"


@dataclass(frozen=True)
class Pair:
    """A gold, another answer, and whether they are equal; bare, and in the texts they came in."""

    source: str
    gold: str
    answer: str
    equal: bool
    gold_text: str
    answer_text: str


def pairs() -> list[Pair]:
    """All labelled pairs."""
    found = []
    path = DATA / "math_verify_conformance.jsonl"
    if not path.exists():
        raise SystemExit(f"{path.name} is missing: set RFENVS_TEST_DATA to the folder that holds math/{path.name}.")
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        gold, answer = rules.stripped(row["gold"]), rules.stripped(row["pred"])
        if gold is not None and answer is not None:
            found.append(Pair("public", gold, answer, bool(row["expected"]), row["gold"], row["pred"]))
    for equal, own in ((False, negatives()), (True, positives())):
        found += [Pair("ours", gold, answer, equal, f"${gold}$", f"${answer}$") for gold, answer in own]
    return found


def ours(pair: Pair) -> bool | None:
    """Our verdict; None for none."""
    outcome = compare(gold=pair.gold, answer=pair.answer).outcome
    return None if outcome in (Outcome.TIMEOUT, Outcome.CRASHED) else outcome is Outcome.EQUAL


def bare(rule: Callable[[str, str], bool]) -> Callable[[Pair], bool | None]:
    return lambda pair: rule(pair.gold, pair.answer)


GRADERS: dict[str, Callable[[Pair], bool | None]] = {
    "rfenvs": ours,
    "math-verify, text as given": lambda pair: rules.math_verify(pair.gold_text, pair.answer_text),
    "math-verify, re-boxed": lambda pair: rules.math_verify(pair.gold, pair.answer, "\\boxed{{}}"),
    "math-verify, bare LaTeX": bare(rules.math_verify),
    "SDPO (string, then bare LaTeX)": bare(rules.sdpo),
    "PRIME / PRM800K": bare(rules.prm800k),
    "DAPO, minerva": bare(rules.dapo_minerva),
    "Hendrycks is_equiv": bare(rules.hendrycks),
    "DAPO, strict box": bare(rules.same_string),
}


@dataclass
class Row:
    """What one grader made of all pairs."""

    grader: str
    accepted: dict[str, int]
    falsely: dict[str, int]
    undecided: int
    p50_ms: float
    p99_ms: float
    disagreements: list[tuple[str, str, bool]]


def run(name: str, grader: Callable[[Pair], bool | None], all_pairs: list[Pair]) -> Row:
    """Judge every pair once."""
    grader(Pair("", "x+1", "1+x", True, "$x+1$", "$1+x$"))  # imports, and starts a worker
    times, row = [], Row(name, {"public": 0, "ours": 0}, {"public": 0, "ours": 0}, 0, 0.0, 0.0, [])
    for pair in all_pairs:
        start = time.perf_counter()
        verdict = grader(pair)
        times.append(time.perf_counter() - start)
        row.undecided += verdict is None
        if verdict:
            (row.accepted if pair.equal else row.falsely)[pair.source] += 1
        if verdict is not pair.equal:
            row.disagreements.append((pair.gold, pair.answer, pair.equal))
    times.sort()
    row.p50_ms, row.p99_ms = 1000 * times[len(times) // 2], 1000 * times[int(len(times) * 0.99)]
    return row


def render(rows: list[Row], totals: dict[str, tuple[int, int]]) -> str:
    """The table."""
    header = ["grader", "public: equal accepted", "public: false accepts", "ours: equal accepted"]
    header += ["ours: false accepts", "no verdict", "p50 ms", "p99 ms"]
    cells = []
    for row in rows:
        counts = []
        for source in ("public", "ours"):
            counts += [f"{row.accepted[source]}/{totals[source][0]}", f"{row.falsely[source]}/{totals[source][1]}"]
        cells.append([row.grader, *counts, str(row.undecided), f"{row.p50_ms:.2f}", f"{row.p99_ms:.1f}"])
    return markdown_table(header, cells)


PREAMBLE = """# Verdicts on math answers

`python benchmarks/math_verdicts.py` on a {hardware}. Pairs of a gold and another answer, labelled equal or not:
{public} from math-verify's own tests (those whose answer can be taken out of its text by rule), {own} written for this
project before any other grader saw them. Labels are taken as they are; where ours departs from one, and why, is in
[the verdicts](../environments/math-verdicts.md).

Every grader gets bare answers, but "text as given" the whole texts (our pairs in dollar signs). The last five rows are
re-implementations from what is known of those rules, in `benchmarks/math_rules.py`, not the projects' own code: read
them as an order, not to the digit. Times are wall clock for one pair, imports left out, nothing cached.

"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", type=Path, default=ROOT / "docs" / "benchmarks" / "math_verdicts.json")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    all_pairs = pairs()
    totals = {
        source: (
            sum(pair.source == source and pair.equal for pair in all_pairs),
            sum(pair.source == source and not pair.equal for pair in all_pairs),
        )
        for source in ("public", "ours")
    }
    rows = []
    for name, grader in GRADERS.items():
        rows.append(run(name, grader, all_pairs))
        print(render(rows[-1:], totals).splitlines()[-1], flush=True)
    for gold, answer, equal in rows[0].disagreements:
        print("rfenvs departs from", "equal" if equal else "unequal", "|", gold, "|", answer)
    about: dict[str, Any] = {"hardware": HARDWARE, "pairs": totals, "rows": [asdict(row) for row in rows]}
    for row in about["rows"]:
        row["disagreements"] = len(row["disagreements"])
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(about, indent=2) + "\n")
    preamble = PREAMBLE.format(hardware=HARDWARE, public=sum(totals["public"]), own=sum(totals["ours"]))
    options.json.with_suffix(".md").write_text(preamble + render(rows, totals))


if __name__ == "__main__":
    main()
