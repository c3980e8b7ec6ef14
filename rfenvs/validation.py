"""`validate`: check an environment's tasks and grader without a model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rfenvs.env import TextEnv
from rfenvs.feedback import FEEDBACK_SCHEMA, feedback_text
from rfenvs.registry import make
from rfenvs.tasks import KNOWN_BAD, NO_OP_PASSES, Task

CANARY = "zqcanaryqz"
"""A word that no text holds by chance: planted in hidden fields, it must come out nowhere."""

_JUNK = ("", " \n\t", "I don't know.", "}{)(][", "\x00\ud800🙂 ￿", "<|im_end|>", "word " * 200)
_SHORTEST_SECRET = 4
_WRONG_TURNS = 8
_FULL = 1.0 - 1e-9


@dataclass
class Report:
    """What `validate` found."""

    id: str
    split: str
    tasks: int
    answers: int = 0
    """Number of answers graded."""
    without_reference: int = 0
    """Number of tasks whose data hold no right answer: there only wrong ones were tried."""
    flagged: int = 0
    """Number of tasks that say themselves that their answer is wrong, or that doing nothing passes."""
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.problems

    def __str__(self) -> str:
        verdict = f"{len(self.problems)} problems" if self.problems else "ok"
        asides = [
            f"{count} {what}"
            for count, what in ((self.without_reference, "without a reference"), (self.flagged, "flagged"))
            if count
        ]
        known = f" ({', '.join(asides)})" if asides else ""
        head = f"{self.id} [{self.split}]: {self.tasks} tasks{known}, {self.answers} answers, {verdict}"
        return "\n  ".join([head, *self.problems])


@dataclass
class _Episode:
    """What came of playing some actions."""

    reward: float
    """Sum over the episode."""
    over: bool
    scored: bool
    shown: list[str]
    """Everything that the policy saw after its first action."""
    items: list[dict[str, Any]]
    last: dict[str, Any]
    """The last info."""


def validate(id: str, split: str, n: int = 20, **kwargs: Any) -> Report:
    """Play the first `n` tasks with answers whose worth is known.

    The gold actions (`TextEnv.gold_actions`) must earn the full reward of 1 without complaint. Empty, junk and
    mutated answers (`TextEnv.wrong_answers`) must not, however often they are given, and must be told why. Nothing
    that the policy sees may hold the reference. Canaries planted in the hidden fields (`TextEnv.plant`) must come
    out nowhere but in items that say of themselves that they reveal the reference. Where a task has no reference
    only the wrong answers are tried; one flagged `known_bad` need not pay for its gold, one flagged `no_op_passes`
    may pay for junk. The report counts both kinds.

    Args:
        id: A registered environment.
        split: One of its splits.
        n: Number of tasks.
        **kwargs: The environment's own arguments.
    """
    env = make(id, split, **kwargs)
    report = Report(id, split, min(n, env.num_tasks(split)))
    for index in range(report.tasks):
        task = env.get_task(index)
        report.flagged += bool(task.flags)
        golds = env.gold_actions(task)
        _check_gold(env, task, index, golds, report)
        for answer in (*_JUNK, *env.wrong_answers(task)):
            if [answer] != golds:
                _check_wrong(env, task, index, answer, report)
    env.close()
    return report


def _play(env: TextEnv, index: int, actions: list[str], planted: Task | None = None) -> tuple[str, _Episode]:
    """Play a task, or a copy of it with other hidden fields; returns its prompt too."""
    prompt, info = env.reset(options={"task_index": index})
    if planted is not None:
        env._task = planted
        env.begin(planted)
    episode = _Episode(0.0, False, True, [], [], info)
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(action)
        episode.reward += reward
        episode.scored = info["scored"]
        episode.last = info
        episode.items += info["feedback"]
        policy = [entry for entry in info["feedback"] if entry["visibility"] == "policy"]
        episode.shown += [observation, *(text for e in policy for text in (e["text"], repr(e["data"])))]
        episode.over = terminated or truncated
        if episode.over:
            break
    return prompt, episode


def _check_gold(env: TextEnv, task: Task, index: int, golds: list[str], report: Report) -> None:
    where = f"task {index} ({task.id})"
    prompts = [env.reset(seed=seed, options={"task_index": index})[0] for seed in (1, 2)]
    if prompts[0] != prompts[1]:
        report.problems.append(f"{where}: two resets on it show different prompts.")
    if not golds:
        report.without_reference += 1
        return
    if task.flagged(KNOWN_BAD):
        return
    _, episode = _play(env, index, golds)
    report.answers += 1
    said = feedback_text(episode.last, "log")
    if not episode.scored:
        report.problems.append(f"{where}: the reference could not be scored.")
    elif episode.reward < _FULL:
        report.problems.append(f"{where}: the reference earns {episode.reward} instead of 1; feedback: {said}")
    elif said:
        report.problems.append(f"{where}: the reference is complained about: {said}")


def _check_wrong(env: TextEnv, task: Task, index: int, answer: str, report: Report) -> None:
    where = f"task {index} ({task.id}), answer {answer[:40]!r}"
    turns = min(env.max_turns, _WRONG_TURNS)
    prompt, episode = _play(env, index, [answer] * turns)
    report.answers += 1
    if not episode.scored:
        report.problems.append(f"{where}: could not be scored.")
        return
    if episode.reward >= _FULL:
        if not task.flagged(NO_OP_PASSES):
            report.problems.append(f"{where}: a wrong answer earns {episode.reward}.")
        return
    if episode.over and not feedback_text(episode.last, "log"):
        report.problems.append(f"{where}: fails without feedback.")
    for entry in episode.items:
        if entry.keys() != FEEDBACK_SCHEMA["properties"].keys():
            report.problems.append(f"{where}: a feedback item lacks fields or has unknown ones.")
        elif entry["visibility"] == "policy" and entry["reveals_reference"]:
            report.problems.append(f"{where}: the policy sees an item that reveals the reference.")
    secret = task.reference.strip()
    known = len(secret) < _SHORTEST_SECRET or secret in answer or secret in prompt
    if not known and any(secret in text for text in episode.shown):
        report.problems.append(f"{where}: the policy sees the reference.")
    _check_canary(env, task, index, [answer] * turns, where, report)


def _check_canary(env: TextEnv, task: Task, index: int, actions: list[str], where: str, report: Report) -> None:
    _, episode = _play(env, index, actions, env.plant(task, CANARY))
    if not episode.scored:
        report.problems.append(f"{where}: could not be scored with a canary in the hidden fields.")
    if any(CANARY in text for text in episode.shown):
        report.problems.append(f"{where}: the policy sees a canary from a hidden field.")
    for entry in episode.items:
        if not entry["reveals_reference"] and CANARY in entry["text"] + repr(entry["data"]):
            report.problems.append(f"{where}: an item quotes a hidden field, and does not say so: {entry['text']}")
