"""Write `toolalpaca.jsonl`: requests to made-up APIs in SDPO's layout, written for this package.

python -m rfenvs.envs.samples.make_toolalpaca [FOLDER]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from rfenvs.envs.toolalpaca_data import OPTIONAL

Planned = list[tuple[str, dict[str, Any]]]

APIS: dict[str, tuple[str, dict[str, tuple[str, dict[str, str]]]]] = {
    "Library": (
        "Books and loans of a public library",
        {
            "searchBooks": (
                "Search the catalogue.",
                {
                    "title": "string. Words of the title.",
                    "author": "string. Name of the author.",
                    "language": "string. One of: [english, french, german]. Language of the book.",
                    "page": "integer. Page of the results (default is 1).",
                },
            ),
            "reserveBook": (
                "Reserve a book.",
                {"bookId": "Required. integer. Number of the book.", "cardNumber": "Required. string. Library card."},
            ),
            "listBranches": ("List all branches.", {}),
        },
    ),
    "Orchard": (
        "Trees, harvests and weather of an orchard",
        {
            "listTrees": ("List the trees.", {"kind": "string. One of: [apple, pear, plum]. Kind of tree."}),
            "recordHarvest": (
                "Write down a harvest.",
                {
                    "treeId": "Required. integer. Number of the tree.",
                    "kilograms": "Required. number. Weight.",
                    "details": "Object. Anything else worth knowing: the day, and who picked.",
                },
            ),
            "tagTree": (
                "Put tags on a tree.",
                {
                    "treeId": "Required. integer. Number of the tree.",
                    "tags": "Required. Array[string]. The tags, in order.",
                },
            ),
            "frostWarning": ("Is frost expected?", {"nights": "integer. How many nights to look ahead."}),
        },
    ),
}

REQUESTS: list[tuple[str, str, Planned]] = [
    ("Library", "Which branches does the library have?", [("listBranches", {})]),
    ("Library", "Find books by Ursula Le Guin.", [("searchBooks", {"author": "Ursula Le Guin"})]),
    ("Library", "Look for French books by Colette.", [("searchBooks", {"author": "Colette", "language": "french"})]),
    (
        "Library",
        'Search for a German book called "Momo", and show me page 2 of the results.',
        [("searchBooks", {"title": "Momo", "author": "", "language": "german", "page": 2})],
    ),
    (
        "Library",
        'Reserve book number 4711 for me; my card is "C-88".',
        [("reserveBook", {"bookId": 4711, "cardNumber": "C-88"})],
    ),
    (
        "Library",
        'Please reserve the books 12 and 15 on card "A-3".',
        [
            ("reserveBook", {"bookId": 12, "cardNumber": "A-3"}),
            ("reserveBook", {"bookId": 15, "cardNumber": "A-3"}),
        ],
    ),
    (
        "Library",
        'What do you have by Italo Calvino in English? And reserve number 90 on card "B-1" while you are at it.',
        [
            ("searchBooks", {"author": "Italo Calvino", "language": "english"}),
            ("reserveBook", {"bookId": 90, "cardNumber": "B-1"}),
        ],
    ),
    (
        "Library",
        'Search for the title "Dune"; the first page will do. If book 7 is free, reserve it on card "Z-9".',
        [
            ("searchBooks", {"title": "Dune", "page": 1}),
            (f"{OPTIONAL}reserveBook", {"bookId": 7, "cardNumber": "Z-9"}),
        ],
    ),
    ("Library", 'Find "Emma" in English.', [("searchBooks", {"title": "Emma", "language": "english"})]),
    (
        "Library",
        "List the branches, and find books by Zadie Smith.",
        [
            ("listBranches", {}),
            ("searchBooks", {"author": "Zadie Smith"}),
        ],
    ),
    ("Orchard", "Show me all trees.", [("listTrees", {})]),
    ("Orchard", "Which pear trees are there?", [("listTrees", {"kind": "pear"})]),
    ("Orchard", "Will there be frost in the next 3 nights?", [("frostWarning", {"nights": 3})]),
    ("Orchard", "Is frost expected?", [("frostWarning", {})]),
    ("Orchard", "Tree 8 gave 41.5 kilograms.", [("recordHarvest", {"treeId": 8, "kilograms": 41.5})]),
    (
        "Orchard",
        'Tree 3 gave 20 kilograms. Note in the details: "day" is "Monday", and "picker" is "Ana".',
        [("recordHarvest", {"treeId": 3, "kilograms": 20, "details": {"day": "Monday", "picker": "Ana"}})],
    ),
    (
        "Orchard",
        'Put the tags "old" and "prune", in this order, on tree 14.',
        [("tagTree", {"treeId": 14, "tags": ["old", "prune"]})],
    ),
    (
        "Orchard",
        "Write down 12 kilograms from tree 1 and 15.5 from tree 2.",
        [
            ("recordHarvest", {"treeId": 1, "kilograms": 12}),
            ("recordHarvest", {"treeId": 2, "kilograms": 15.5}),
        ],
    ),
    (
        "Orchard",
        'List the apple trees, and tag tree 5 with "graft".',
        [("listTrees", {"kind": "apple"}), ("tagTree", {"treeId": 5, "tags": ["graft"]})],
    ),
    (
        "Orchard",
        "Check for frost tonight and tomorrow night, that is 2 nights, and list the plum trees.",
        [("frostWarning", {"nights": 2}), ("listTrees", {"kind": "plum"})],
    ),
]


def prompt(api: str, question: str) -> str:
    """The tools in prose, the form of the reply, and the request."""
    about, tools = APIS[api]
    lines = [f"Plan calls of this API.\nName: {api}\nDescription: {about}\nDocumentation:"]
    for name, (description, parameters) in tools.items():
        lines.append(f"{name}: {description}\nParameters: {json.dumps(parameters)}\nOutput: Successful response.")
    lines.append("\nReply in this form, once for each call, all in one reply:\nThought: what to do\nAction: a tool")
    lines.append(f"Action Input: its arguments as a JSON object\n\nQuestion: {question}")
    return "\n".join(lines)


def rows() -> list[dict[str, Any]]:
    """The rows, with the calls as a JSON list in a string, and arguments as JSON in a string again."""
    found = []
    for number, (api, question, planned) in enumerate(REQUESTS):
        calls = [{"Action": name, "Action_Input": json.dumps(arguments)} for name, arguments in planned]
        found.append({"idx": number, "prompt": prompt(api, question), "answer": json.dumps(calls)})
    return found


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    text = "".join(json.dumps(row) + "\n" for row in rows())
    (folder / "toolalpaca.jsonl").write_text(text, encoding="utf-8")
