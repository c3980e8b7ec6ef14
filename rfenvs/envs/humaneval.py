"""`rfenvs/HumanEval-v0`: complete a Python function from its signature and docstring."""

from __future__ import annotations

import ast
import builtins
import functools
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rfenvs.datasets import DataFile, DatasetSpec, Source, locate
from rfenvs.env import Action, TextEnv, Verdict
from rfenvs.feedback import Item, Kind, clip, item
from rfenvs.graders.asserts import Check, Unreadable, read_checks
from rfenvs.graders.code import Block, last_block
from rfenvs.graders.code_compare import show
from rfenvs.graders.code_diff import value_difference
from rfenvs.graders.code_sandbox import failure, shared_sandbox
from rfenvs.rows import DataError, read_rows
from rfenvs.tasks import Message, Task
from sandboxes import Case, Limits, Program, Result, Sandbox, SandboxError, Status

SPEC = DatasetSpec(
    id="humaneval",
    hub_id="openai/openai_humaneval",
    revision="7dce6050a7d6d172f3cc5c32aa97f52fa1a2e544",
    files=(DataFile("openai_humaneval/test-00000-of-00001.parquet", rows=164),),
    licence="MIT",
    columns=dict.fromkeys(("task_id", "prompt", "canonical_solution", "test", "entry_point"), str),
    sample=Path(__file__).parent / "samples" / "humaneval.jsonl",
)
"""The data set. A file of one's own may also be OpenAI's `HumanEval.jsonl.gz`."""

LIMITS = Limits(cpu_s=3.0, memory_mb=4096)
_LONGEST = 600
_SYSTEM = "You are an expert Python programmer."
_REQUEST = "Complete this function. Reply with the whole function in one fenced block.\n\n```python\n{}\n```"
_KINDS: dict[Status, tuple[Kind, str]] = {
    Status.TIMEOUT: ("timeout", "time limit exceeded"),
    Status.MEMORY_LIMIT: ("memory", "memory limit exceeded"),
    Status.OUTPUT_LIMIT: ("runtime_error", "output limit exceeded"),
    Status.KILLED: ("runtime_error", "the program crashed"),
    Status.RUNTIME_ERROR: ("runtime_error", "runtime error"),
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Function:
    """A function to write, and the checks on it."""

    id: str
    prompt: str
    """Python that ends with the function's signature and docstring."""
    entry_point: str
    solution: str
    """The body that follows the prompt."""
    checks: tuple[Check, ...]
    preamble: str
    """What stands before the function: imports and helpers, there for every answer."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Functions, and where they come from."""

    functions: tuple[Function, ...]
    excluded: tuple[tuple[str, str], ...]
    """Ids of problems whose tests could only be run beside the program, with the reason."""
    revision: str
    source: Source


class HumanEvalEnv(TextEnv):
    """Complete a Python function from its signature and docstring.

    ## Observation
    The request, with the signature and docstring in a fenced block. After a failed turn (with `max_turns` above 1):
    what is wrong.

    ## Action
    The whole function in a fenced block (the last one counts), or the function alone. What starts with a blank
    continues the prompt, as a base model would. The prompt's imports and helpers are there in any case.

    ## Reward
    1.0 where every check holds, otherwise 0.0. `info["metrics"]`: `tests`, `tests_passed` (a share of all; testing
    stops at the first failure), `has_code`.

    ## End of the episode
    `terminated` on success, and after the only turn of a single-turn episode; `truncated` with
    `stop_reason="max_turns"` after the last of several. An answer without a program ends a single-turn episode with
    `stop_reason="parse_error"`. Where the sandbox itself fails: `truncated`, `scored` False, and the reason in an
    item for the log.

    ## Tasks
    OpenAI's 164 problems, in both splits. The public tests are Python that holds the answers, so they are not run
    but read (`rfenvs.graders.asserts`): arguments go into the sandbox, results come out, and the comparison, by
    Python's own `==`, is made here. That works for 161. Three are left out, since their tests compute with the
    problem's own helpers: HumanEval/32, 38 and 50. A pass rate here is one of 161 problems.

    ## Feedback
    | kind | `data["code"]` | said when |
    |---|---|---|
    | `format_error` | `no_code`, `truncated` | the answer holds no program |
    | `compile_error` | `compile_error`, `no_function` | it is not Python, or does not define the function |
    | `runtime_error` | `runtime_error`, `output_limit`, `killed` | it raised, crashed, or printed without end |
    | `timeout`, `memory` | `timeout`, `memory_limit` | it needed more than 3 s of CPU, or 4 GiB |
    | `wrong_answer` | `hidden`; for the teacher `value_difference`'s | a check does not hold |

    The policy learns the kind of failure and the line of its own program; the teacher also the call, what was
    expected and what came, in an item marked `reveals_reference`.

    ## Arguments
    Args:
        split: `"train"` or `"test"`; both hold the same problems. HumanEval has no training set.
        data: Problems in HumanEval's layout (`.jsonl`, `.jsonl.gz` or `.parquet`), `"hub"` or `"sample"`. By default
            the first that can be had of `$RFENVS_DATA_DIR`, the hub, and the packaged sample: see
            `info["task"]["source"]`.
        max_turns: Attempts at a task; 1 by default.
        render_mode: `"ansi"` or `"human"`.
        reveal: `"private"`: tell the teacher about the failed check; `"none"`: do not.
        sandbox: A kind for `sandboxes.make`, or a sandbox. By default the one that all environments share.

    ## Version history
    - v0: first release.
    """

    splits = ("train", "test")
    blocking = True  # on the sandbox
    reward_part_names = ("tests",)
    metric_names = ("tests", "tests_passed", "has_code")

    def __init__(
        self,
        split: str = "train",
        data: str | None = None,
        max_turns: int | None = None,
        render_mode: str | None = None,
        reveal: str = "private",
        sandbox: str | Sandbox = "auto",
    ) -> None:
        super().__init__(split, data, max_turns, render_mode)
        if reveal not in ("none", "private"):
            raise ValueError(f"reveal={reveal!r}: use 'none' or 'private'.")
        self.reveal = reveal
        self._sandbox = sandbox
        self._load = functools.partial(_cached, data)

    @property
    def data_revision(self) -> str:  # type: ignore[override]
        """Which data."""
        return self._load().revision

    def num_tasks(self, split: str) -> int:
        """161 of the 164 problems, or what `data` holds."""
        return len(self._load().functions)

    def task(self, split: str, index: int) -> Task:
        """Make the task at `index`: problems in the order of the data set."""
        data = self._load()
        function = data.functions[index]
        return Task(
            id=function.id,
            reference=f"```python\n{function.prompt}{function.solution.rstrip()}\n```",
            messages=_messages(function),
            source=data.source,
            data={"function": function},
        )

    def begin(self, task: Task) -> None:
        """Start the sandbox where none is running, so that a host without isolation is told of at once."""
        self._place()

    def grade(self, task: Task, action: Action, turn: int) -> Verdict:
        """Call the function in `action` with the arguments of every check."""
        function: Function = task.data["function"]
        total = len(function.checks)
        block = find_program(action)
        if block is None:
            text = "The answer holds no program: put the whole function between ```python and ```."
            span = (len(action), len(action))
            problem = item("format_error", text, span=span, data={"code": "no_code"})
            return Verdict(0.0, [problem], metrics={"tests": total}, stop_reason="parse_error")
        code = _assemble(function, block)
        try:
            results = _run(Program(code, function=function.entry_point), function.checks, self._place())
        except SandboxError as error:
            return Verdict(0.0, [failure(error)], success=False, scored=False)
        passed = sum(map(_passes, function.checks, results))
        metrics = {"tests": total, "tests_passed": passed / total, "has_code": 1.0}
        if passed == total:
            return Verdict(1.0, reward_parts={"tests": 1.0}, metrics=metrics)
        shift = len(code.splitlines()) - len(block.code.splitlines())
        problems = _explain(function, function.checks[len(results) - 1], results[-1], block, shift)
        if self.reveal == "none":
            problems = [entry for entry in problems if not entry["reveals_reference"]]
        return Verdict(0.0, problems, metrics=metrics)

    def wrong_answers(self, task: Task) -> list[str]:
        """The signature without a body, a function under another name, and code that does not parse."""
        function: Function = task.data["function"]
        named = task.reference.replace(f"def {function.entry_point}(", f"def {function.entry_point}_(")
        return [f"```python\n{function.prompt}    pass\n```", named, "```python\ndef (\n```"]

    def plant(self, task: Task, word: str) -> Task:
        """The checks with `word` for every expected value."""
        function: Function = task.data["function"]
        checks = tuple(replace(check, expected=word) if check.how == "==" else check for check in function.checks)
        planted = replace(function, checks=checks, solution=f"{function.solution}  # {word}")
        return replace(super().plant(task, word), data={**task.data, "function": planted})

    def _place(self) -> Sandbox:
        return self._sandbox if isinstance(self._sandbox, Sandbox) else shared_sandbox(self._sandbox)


@functools.lru_cache(maxsize=8)
def _cached(data: str | None) -> Dataset:
    return load(data)


def load(data: str | os.PathLike[str] | None = None) -> Dataset:
    """Load the problems; those whose tests cannot be read are left out and named in `Dataset.excluded`.

    Args:
        data: A file in HumanEval's layout, `"hub"`, `"sample"`, or None for the best there is (`rfenvs.datasets`).

    Raises:
        DataError: A file is damaged or of another layout, or no problem is left.
        DataUnavailable: `data="hub"` and no hub.
        FileNotFoundError: `data` is a path, and nothing is there.
    """
    located = locate(SPEC, data, [entry.path for entry in SPEC.files])
    (path,) = located.paths
    stat = path.stat()
    functions, excluded = _read(path, stat.st_size, stat.st_mtime_ns)
    expected, found = SPEC.files[0].rows, len(functions) + len(excluded)
    if located.source == "hub" and found != expected:
        raise DataError(f"{path.name} of {SPEC.hub_id}: expected {expected} problems, found {found}.")
    return Dataset(functions, excluded, located.revision, located.source)


@functools.lru_cache(maxsize=4)
def _read(path: Path, size: int, mtime_ns: int) -> tuple[tuple[Function, ...], tuple[tuple[str, str], ...]]:
    """The problems of a file, and what was left out; a file of another size or time is another file."""
    functions: list[Function] = []
    excluded: list[tuple[str, str]] = []
    for row in read_rows(path, SPEC.columns):
        values = row.values
        entry_point = values["entry_point"]
        preamble = _preamble(values["prompt"], entry_point)
        if preamble is None:
            what = f'the prompt does not define "{entry_point}", which entry_point names'
            raise DataError(f"{path.name}, line {row.line}: {what}.")
        try:
            checks = tuple(read_checks(values["test"], entry_point))
        except Unreadable as error:
            excluded.append((values["task_id"], str(error)))
            continue
        functions.append(
            Function(
                id=values["task_id"],
                prompt=values["prompt"],
                entry_point=entry_point,
                solution=values["canonical_solution"],
                checks=checks,
                preamble=preamble,
            )
        )
    if not functions:
        raise DataError(f"{path.name}: no problem has tests that can be read: {excluded[0][1]}.")
    if excluded:
        _log.info("%d problems left out, their tests cannot be read: %s.", len(excluded), ", ".join(dict(excluded)))
    return tuple(functions), tuple(excluded)


def find_program(answer: str) -> Block | None:
    """The last fenced block, or the whole answer where there is no fence; None where there is no text."""
    if "```" in answer:
        return last_block(answer)
    return Block(answer, 0) if answer.strip() else None


def _preamble(prompt: str, entry_point: str) -> str | None:
    """What stands before the function in the prompt; None where the prompt does not define it."""
    try:
        tree = ast.parse(prompt)
    except SyntaxError:
        return None
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == entry_point:
            return "".join(prompt.splitlines(keepends=True)[: node.lineno - 1])
    return None


def _assemble(function: Function, block: Block) -> str:
    """The program: a continuation follows the prompt, a function the prompt's imports and helpers."""
    first = next(line for line in block.code.split("\n") if line.strip())
    head = function.prompt if first[0] in " \t" else function.preamble
    return head + ("" if not head or head.endswith("\n") else "\n") + block.code


def _messages(function: Function) -> tuple[Message, ...]:
    request = _REQUEST.format(function.prompt.strip("\n"))
    return {"role": "system", "content": _SYSTEM}, {"role": "user", "content": request}


def _passes(check: Check, result: Result) -> bool:
    return result.ok and check.holds(result.value)


def _run(program: Program, checks: Sequence[Check], sandbox: Sandbox) -> list[Result]:
    """Run the checks up to the first that fails, in one process; a failure counts if it is one in a process alone."""
    cases = [Case(args=check.args) for check in checks]
    for share in (True, False):
        results = sandbox.run_cases(
            program, cases, LIMITS, share=share, stop=lambda number, result: not _passes(checks[number], result)
        )
        last = len(results) - 1
        if not share or last == 0 or _passes(checks[last], results[last]):
            break
        alone = sandbox.run_cases(program, [cases[last]], LIMITS)[0]
        if not _passes(checks[last], alone):
            results[last] = alone
            break
    return results


def _explain(function: Function, check: Check, result: Result, block: Block, shift: int) -> list[Item]:
    """What the policy may know of a failed check, and the whole story for the teacher."""
    name = function.entry_point
    raised = result.exception
    line = None if raised is None or raised.line is None else raised.line - shift
    span = _span(block, line)
    where = "" if span is None else f" on line {line} of your program"
    if result.status is Status.COMPILE_ERROR:
        text = f"The program is not Python: {raised or result.detail}{where}."
        return [item("compile_error", text, source="sandbox", span=span, data={"code": "compile_error"})]
    if result.status is Status.NO_FUNCTION:
        text = f"The program does not define the function {name}."
        return [item("compile_error", text, source="sandbox", data={"code": "no_function"})]
    kind: Kind = "wrong_answer"
    code = "hidden"
    call = clip(f"{name}({', '.join(map(show, check.args))})", _LONGEST)
    if result.status in _KINDS:
        kind, said = _KINDS[result.status]
        code = result.status.value
        known = raised.type if raised is not None and hasattr(builtins, raised.type) else ""
        gist = f"Hidden test: {said}{f' ({known})' if known else ''}{where}."
        full = f"{call}: {said}{where}{f': {clip(str(raised), _LONGEST)}' if raised is not None else ''}."
    else:
        gist = "Hidden test: wrong answer."
        if result.status is Status.BAD_VALUE:
            got = result.detail.rstrip(".")
        else:
            code, clause = value_difference(check.expected, result.value) if check.how == "==" else ("value", "")
            got = f"returned {clip(show(result.value), _LONGEST)}{f'; {clause}' if clause else ''}"
        full = f"assert {clip(check.write(name), 2 * _LONGEST)}: {got}."
    hinted = "hidden" if kind == "wrong_answer" else code
    return [
        item(kind, gist, source="sandbox", span=span, data={"code": hinted}),
        item(kind, full, span=span, visibility="teacher", reveals_reference=True, data={"code": code}),
    ]


def _span(block: Block, line: int | None) -> tuple[int, int] | None:
    """A line of the program, as code points of the answer."""
    lines = block.code.split("\n")
    if line is None or not 1 <= line <= len(lines):
        return None
    start = block.start + sum(len(entry) + 1 for entry in lines[: line - 1])
    return start, start + len(lines[line - 1])
