"""One check of a reply with tool calls: ours against the leaderboard's own checker, on its single-turn golds.

    python benchmarks/tool_calls.py [--data FOLDER] [--json PATH]

Ours is the whole way from text to problems: reading, schema, pairing. The leaderboard's `ast_checker` gets calls that
are already read, since its own reading evaluates the model's text; ours from there on is given too. In every round both
take their turn over all questions.

Needs: pip install --no-deps bfcl-eval==2026.3.23, or a folder with the wheel unpacked that BFCL_EVAL_SRC names.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median, quantiles

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bfcl_peer import checker, data_folder

from benchmarks.common import HARDWARE, ROOT, markdown_table
from rfenvs.envs.bfcl_data import CATEGORIES, load
from rfenvs.graders.tool_calls import grade, grade_calls, write_call
from rfenvs.rows import read_rows

ROUNDS = 5
NAMES = {"ours": "rfenvs, from text", "read": "rfenvs, from calls", "peer": "bfcl-eval `ast_checker`, from calls"}


def jobs(folder: Path) -> dict[str, list[Callable[[], object]]]:
    """For each variant one check a question, on calls that are right."""
    check = checker()
    found: dict[str, list[Callable[[], object]]] = {name: [] for name in NAMES}
    for category in CATEGORIES:
        path = folder / f"BFCL_v4_{category}.json"
        if "irrelevance" in category or not path.is_file():
            continue
        functions = {row.values["id"]: row.values["function"] for row in read_rows(path, {})}
        answers = {
            row.values["id"]: row.values["ground_truth"]
            for row in read_rows(path.parent / "possible_answer" / path.name, {})
        }
        for q in load(category, folder).questions:
            text = "\n".join(write_call(call.name, call.arguments) for call in q.gold)
            plain = [{call.name: call.arguments} for call in q.gold]
            gold = list(q.gold)
            found["ours"].append(lambda q=q, text=text: grade(text, q.expected, q.tools, reference_wins=True))
            found["read"].append(lambda q=q, gold=gold: grade_calls(gold, q.expected, q.tools, reference_wins=True))
            if check is not None:
                found["peer"].append(
                    lambda f=functions[q.id], plain=plain, a=answers[q.id], c=category: check(f, plain, a, c)
                )
    return {name: calls for name, calls in found.items() if calls}


def main() -> None:
    """Measure, print a table, and write it where the docs read it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, help="the leaderboard's data folder; by default the one in the wheel")
    parser.add_argument("--json", type=Path, default=ROOT / "docs" / "benchmarks" / "tool_calls.json")
    options = parser.parse_args()
    folder = options.data or data_folder()
    if folder is None:
        parser.error("no data: install bfcl-eval (see the top of this file), or give --data")
    everything = jobs(folder)
    times: dict[str, list[float]] = {name: [] for name in everything}
    for _ in range(ROUNDS):
        for name, calls in everything.items():
            for call in calls:
                start = time.thread_time()
                call()
                times[name].append(1e3 * (time.thread_time() - start))
    results = {
        name: {"mean_ms": mean(taken), "p50_ms": median(taken), "p99_ms": quantiles(taken, n=100)[98]}
        for name, taken in times.items()
    }
    rows = [[NAMES[name], *(f"{value:.3f}" for value in figures.values())] for name, figures in results.items()]
    page = (
        f"# Checking tool calls\n\n`python benchmarks/tool_calls.py`: {len(everything['ours']):,} questions, {ROUNDS} "
    )
    page += f"rounds, a {HARDWARE}, milliseconds of CPU a check.\n\n"
    page += markdown_table(["", "mean", "p50", "p99"], rows)
    if "peer" in results:
        ratios = (f"{NAMES[v]}: {results[v]['mean_ms'] / results['peer']['mean_ms']:.2f}" for v in ("ours", "read"))
        page += f"\nMean, over that of {NAMES['peer']}: {'; '.join(ratios)}.\n"
    print(page)
    about = {"hardware": HARDWARE, "questions": len(everything["ours"]), "rounds": ROUNDS}
    options.json.write_text(json.dumps({**about, **results}, indent=2) + "\n")
    options.json.with_suffix(".md").write_text(page)


if __name__ == "__main__":
    main()
