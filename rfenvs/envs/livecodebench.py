"""`rfenvs/LiveCodeBench-v6`: write a Python program that passes a problem's hidden tests."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

from rfenvs.env import Action, TextEnv, Verdict
from rfenvs.envs import livecodebench_data as catalogue
from rfenvs.feedback import Item, visible
from rfenvs.graders import code
from rfenvs.graders.code import PROFILES, Problem, graded_tests
from rfenvs.graders.code_compare import arguments, decode
from rfenvs.graders.code_feedback import Reveal, feedback
from rfenvs.graders.code_sandbox import failure, shared_sandbox
from rfenvs.graders.code_words import parameters
from rfenvs.tasks import KNOWN_BAD, Message, Task
from sandboxes import Sandbox, SandboxError

_SYSTEM = (
    "You are an expert Python programmer. You will be given a question (problem specification) and will generate a "
    "correct Python program that matches the specification and passes all tests."
)
_FORMAT_FUNCTION = (
    "You will use the following starter code to write the solution to the problem and enclose your code within "
    "delimiters."
)
_FORMAT_STDIN = (
    "Read the inputs from stdin solve the problem and write the answer to stdout (do not directly test on the sample "
    "inputs). Enclose your code within delimiters as follows. Ensure that when the python program runs, it reads the "
    "inputs, runs the algorithm and writes output to STDOUT."
)
_AGAIN = "Correct the program. Reply with the whole program in one fenced block."


class LiveCodeBenchEnv(TextEnv):
    """Write a Python program that passes a problem's hidden tests.

    ## Observation
    The problem, in the words of LiveCodeBench's generic chat format: a system and a user turn, the user's with the
    question (sample tests included) and either the starter code of a function or the request to read stdin and
    write stdout. After a failed turn (with `max_turns` above 1): what is wrong, and the request to correct it.

    ## Action
    Free text with the program in a fenced block. With the profile `lcb` the program is what stands between the
    last two lines that hold three backticks; with `sdpo` it is the longest fenced block.

    ## Reward
    1.0 where every test passes, otherwise 0.0; with `reward="fraction"` the share of tests that pass.
    `info["metrics"]`: `tests`, `tests_run`, `tests_passed` (a share of all; with `lcb` testing stops at the first
    failure, and what was not run has not passed), `has_code`.

    ## End of the episode
    `terminated` on success, and after the only turn of a single-turn episode; `truncated` with
    `stop_reason="max_turns"` after the last of several. A single-turn answer without a program ends with
    `stop_reason="parse_error"`. Where the sandbox itself fails: `truncated`, `scored` False, and the reason in an
    item for the log.

    ## Profiles
    | | `lcb` | `sdpo` |
    |---|---|---|
    | judge | LiveCodeBench's own | that of SDPO's reference implementation |
    | tests | public, then private, up to the first failure | private; on `train` a random half of them |
    | process | one for all tests, failures checked in one of their own | one a test |
    | limits | 6 s of CPU, 4 GiB | 7 s of CPU, 1 GiB |
    | stdout | line by line, numbers as decimals | whole, line ends counting as blanks |
    | returned value | `==`, a tuple at the top counting as a list | equal as JSON text |
    | feedback | the first failure | the first error, timeout, or the two shortest wrong answers |

    What differs from those judges on purpose is listed in `docs/environments/livecodebench.md`.

    ## Tasks
    `release` names the window: by default the 131 problems of February to April 2025 that SDPO uses. Both splits
    hold the same problems; LiveCodeBench has no training set. For disjoint ones give two windows, such as
    `split="train", release="release_v6", end_date="2025-01-31"` and `split="test"`. Problems that LiveCodeBench
    lists as faulty (flag `known_bad`; none is in the default window) are left out of `train` and kept in
    `test`, so that its scores can be compared with published ones. Only the packaged sample has reference
    solutions: `task.reference` is empty for LiveCodeBench's own problems.

    ## Feedback
    | kind | `data["code"]` | said when |
    |---|---|---|
    | `format_error` | `no_code`, `unclosed`, `empty_code`, `truncated` | the answer holds no program |
    | `compile_error` | `syntax`, `no_function` | it is not Python, or lacks the function |
    | `runtime_error` | `exception`, `recursion`, `end_of_input`, `missing_module`, `not_allowed` | it raised |
    | `runtime_error` | `exited`, `crashed`, `output_limit` | it left early, died by a signal, wrote without end |
    | `timeout` | `cpu`, `wall` | it computed, or waited, for too long |
    | `memory` | `memory` | it needed more memory than allowed |
    | `wrong_answer` | `empty`, `twice`, `lines`, `values`, `case`, `blanks`, `number`, `text` | stdout differs |
    | `wrong_answer` | `none`, `type`, `bad_value`, `length`, `order`, `nested_tuple`, `keys`, `value` | a value does |

    Input, expected output and output of a public test are shown to the policy. Of a hidden test the policy learns
    the kind of failure and the line of its own program, the teacher everything, in an item marked
    `reveals_reference`. Spans mark the line of the program.

    ## Arguments
    Args:
        split: `"train"` or `"test"`.
        data: Problems in LiveCodeBench's layout: a file, a folder with its files, `"hub"` or `"sample"`. By default
            the first that can be had of `$RFENVS_DATA_DIR`, the hub, and the packaged sample: see
            `info["task"]["source"]`.
        max_turns: Attempts at a task; 1 by default.
        render_mode: `"ansi"` or `"human"`.
        profile: `"lcb"` or `"sdpo"`.
        release: A release of LiveCodeBench: `rfenvs.envs.livecodebench_data` has the table.
        start_date: First contest date, such as `"2025-02-01"`.
        end_date: Last contest date, that day included.
        difficulty: One or several of `easy`, `medium`, `hard`.
        platform: One or several of `leetcode`, `atcoder`, `codeforces`.
        reveal: Whose tests feedback may quote: `"none"`; `"public"`; `"private"`: also the hidden ones, to the
            teacher alone.
        reward: `"all"` or `"fraction"`; the latter runs all tests.
        fresh: Run every test in a process of its own (about ten times slower).
        seed: Draws the half of the tests that `sdpo` trains on.
        sandbox: A kind for `sandboxes.make`, or a sandbox made with `prelude=PRELUDE` of `rfenvs.graders.code`. By
            default one of kind `auto` is started when first needed, and shared by all environments of the process.

    ## Version history
    - v6: release 6 of LiveCodeBench; first version here.
    """

    splits = ("train", "test")
    blocking = True  # on the sandbox
    reward_part_names = ("tests",)
    metric_names = ("tests", "tests_run", "tests_passed", "has_code")

    def __init__(
        self,
        split: str = "train",
        data: str | None = None,
        max_turns: int | None = None,
        render_mode: str | None = None,
        profile: str = "lcb",
        release: str | None = None,
        start_date: str | None = None,
        end_date: str | None = None,
        difficulty: str | Sequence[str] | None = None,
        platform: str | Sequence[str] | None = None,
        reveal: Reveal = "private",
        reward: str = "all",
        fresh: bool = False,
        seed: int = 0,
        sandbox: str | Sandbox = "auto",
    ) -> None:
        super().__init__(split, data, max_turns, render_mode)
        _one_of("profile", profile, tuple(PROFILES))
        _one_of("reveal", reveal, get_args(Reveal))
        _one_of("reward", reward, ("all", "fraction"))
        self.profile = profile
        self.reveal: Reveal = reveal
        self.reward = reward
        self.fresh = fresh
        self.seed = seed
        self._sandbox = sandbox
        self._chosen: dict[str, Sequence[Problem]] = {}
        window = data, release, start_date, end_date
        self._load = functools.partial(_load, *window, _hashable(difficulty), _hashable(platform))

    @property
    def data_revision(self) -> str:  # type: ignore[override]
        """Which data and which selection of them."""
        return self._load().revision

    def num_tasks(self, split: str) -> int:
        """Number of problems in the window; of `train`, those that are not known to be faulty."""
        return len(self._problems(split))

    def task(self, split: str, index: int) -> Task:
        """Make the task at `index`: problems in the order of the data set."""
        problem = self._problems(split)[index]
        data = self._load()
        solution = data.solutions.get(problem.id)
        fault = known_bad(problem)
        return Task(
            id=problem.id,
            reference="" if solution is None else _fenced(solution),
            messages=prompt(problem),
            source=data.source,
            flags=(f"{KNOWN_BAD}: {fault}",) if fault else (),
            data={"problem": problem, "split": split},
        )

    def begin(self, task: Task) -> None:
        """Start the sandbox where none is running, so that a host without isolation is told of at once."""
        self._place()

    def grade(self, task: Task, action: Action, turn: int) -> Verdict:
        """Run the program in `action` on the problem's tests."""
        problem: Problem = task.data["problem"]
        tests = graded_tests(problem, self.profile, task.data["split"], self.seed)
        run_all = self.reward == "fraction"
        try:
            graded = code.grade(
                problem, action, self._place(), self.profile, tests=tests, fresh=self.fresh, run_all=run_all
            )
        except SandboxError as error:
            return Verdict(0.0, [failure(error)], success=False, scored=False)
        items = feedback(graded, problem, action, self.reveal)
        share = graded.passed / graded.total
        reward = share if run_all else float(graded.solved)
        return Verdict(
            reward,
            items,
            success=graded.solved,
            reward_parts={"tests": reward},
            metrics={
                "tests": graded.total,
                "tests_run": len(graded.records),
                "tests_passed": share,
                "has_code": graded.block is not None,
            },
            observation=_reply(items, action) if items and turn + 1 < self.max_turns else None,
            stop_reason="completed" if graded.block is not None else "parse_error",
        )

    def wrong_answers(self, task: Task) -> list[str]:
        """Programs that are broken in the usual ways, and one that knows only the public tests by heart."""
        problem: Problem = task.data["problem"]
        names = ", ".join(["self", *parameters(problem)])
        if problem.function is None:
            programs = ["pass", "print()", "raise ValueError", "print(input()", "import os\nos._exit(0)"]
        else:
            head = f"class Solution:\n    def {problem.function}({names}):\n        "
            programs = [head + "pass", head + "return object()", head + "return (", "class Solution:\n    pass"]
        if task.reference:
            program = task.reference.split("\n", 1)[1].rsplit("\n", 1)[0]
            programs += [f"{program}\n)", f"raise SystemExit\n{program}"]
            if problem.function is None:
                programs.append(f"{program}\nprint('done')")
        by_heart = _by_heart(problem, names) if self.profile == "lcb" else None
        return ["```python\n```", *map(_fenced, programs), *([] if by_heart is None else [_fenced(by_heart)])]

    def plant(self, task: Task, word: str) -> Task:
        """The hidden tests with `word` behind every expected output."""
        problem: Problem = task.data["problem"]
        private = [replace(test, output=json.dumps(word) if problem.function else f"{test.output} {word}")
                   for test in problem.private]  # fmt: skip
        return replace(super().plant(task, word), data={**task.data, "problem": replace(problem, private=private)})

    def _problems(self, split: str) -> Sequence[Problem]:
        if split not in self._chosen:
            problems = self._load().problems
            self._chosen[split] = [p for p in problems if split == "test" or not known_bad(p)]
        return self._chosen[split]

    def _place(self) -> Sandbox:
        return self._sandbox if isinstance(self._sandbox, Sandbox) else shared_sandbox(self._sandbox)


def prompt(problem: Problem) -> tuple[Message, ...]:
    """LiveCodeBench's generic chat format, to the letter."""
    form, body = (
        (_FORMAT_FUNCTION, problem.starter_code) if problem.starter_code else (_FORMAT_STDIN, "# YOUR CODE HERE")
    )
    user = (
        f"### Question:\n{problem.statement}\n\n### Format: {form}\n```python\n{body}\n```\n\n"
        "### Answer: (use the provided format with backticks)\n\n"
    )
    return {"role": "system", "content": _SYSTEM}, {"role": "user", "content": user}


@functools.lru_cache(maxsize=8)
def _load(*arguments: Any) -> catalogue.Dataset:
    return catalogue.load(*arguments)


def known_bad(problem: Problem) -> str:
    """Why LiveCodeBench lists the problem as faulty; empty where it does not."""
    slug = re.sub(r"[^a-z0-9]+", "-", problem.title.lower()).strip("-")
    return catalogue.KNOWN_BAD.get(problem.id) or catalogue.KNOWN_BAD.get(slug, "")


def _fenced(program: str) -> str:
    return f"```python\n{program.rstrip()}\n```"


def _reply(items: list[Item], action: Action) -> str:
    cut_off = ["The answer was cut off by the length limit."] if action.finish_reason == "length" else []
    return "\n".join([*cut_off, *(entry["text"] for entry in visible(items, "policy")), "", _AGAIN])


def _by_heart(problem: Problem, names: str) -> str | None:
    """A program that passes the public tests and knows nothing else; None where that would be a solution."""
    known = {test.input: test.output for test in problem.public}
    if all(known.get(test.input) == test.output for test in problem.private):
        return None
    if problem.function is None:
        return f"import sys\nprint({known!r}.get(sys.stdin.read(), ''))"
    table = {json.dumps(arguments(text)): decode(output) for text, output in known.items()}
    called_with = ", ".join(parameters(problem))
    head = f"import json\nclass Solution:\n    def {problem.function}({names}):\n"
    return f"{head}        return {table!r}.get(json.dumps([{called_with}]))"


def _hashable(option: str | Sequence[str] | None) -> str | tuple[str, ...] | None:
    return option if option is None or isinstance(option, str) else tuple(option)


def _one_of(name: str, value: object, options: tuple[str, ...]) -> None:
    if value not in options:
        raise ValueError(f"{name}={value!r}: use {' or '.join(map(repr, options))}.")
