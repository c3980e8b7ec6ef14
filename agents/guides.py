"""Verified trajectories that are kept to be learnt from again: a run's own past, or the records of another run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agents.batch import Sample
from agents.chat import Chat
from agents.errors import SetupError
from agents.report.metrics import TRAJECTORIES_FILE, iter_jsonl
from agents.trajectory import Trajectory, Turn


@dataclass(frozen=True)
class Guide:
    """One trajectory that earned full reward."""

    step: int
    """Training step at which it was sampled."""
    reward: float
    turns: list[dict[str, Any]]
    """Each with ``messages``, ``text``, ``finish_reason``, and where they are known ``prompt_ids``, ``action_ids``,
    ``logprobs``, or ``tokens`` as a run records them."""

    @classmethod
    def of(cls, trajectory: Trajectory, step: int) -> Guide:
        """One that was sampled now."""
        return cls(step, trajectory.reward, [_kept(turn) for turn in trajectory.turns])

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Guide:
        """What `to_dict` gave."""
        return cls(int(row["step"]), float(row["reward"]), [dict(turn) for turn in row["turns"]])

    def samples(self, group: int, attempt: int, source: str, asked: Turn, chat: Chat) -> list[Sample]:
        """Its turns as sequences of a group whose attempts began as ``asked`` did; none where it began otherwise.

        Actions of which only the text is known are encoded. ``behaviour`` is there where the recorded tokens are those.
        """
        if self.turns[0]["messages"] != asked.messages:
            return []
        return [_sample(turn, t, group, attempt, source, self.reward, chat) for t, turn in enumerate(self.turns)]


def guides_file(path: str) -> Path:
    """The records of a run, by its directory or their own path; `SetupError` where there are none."""
    file = Path(path) / TRAJECTORIES_FILE if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise SetupError(f"recipe.guides={path!r}: there is no {file}; give the directory of a run that was trained")
    return file


def read_guides(path: str) -> dict[str, list[Guide]]:
    """Successes of a run by task id, in order; `SetupError` where it left no records."""
    found: dict[str, list[Guide]] = {}
    for _, row in iter_jsonl(guides_file(path)):
        turns = row.get("turns") or []
        if row.get("scored") and row["reward"] >= 1 and turns and all(t["source"] == "policy" for t in turns):
            guide = Guide(int(row.get("step", 0)), float(row["reward"]), turns)
            found.setdefault(str(row["task"].get("id")), []).append(guide)
    return found


def _kept(turn: Turn) -> dict[str, Any]:
    names = ("messages", "text", "finish_reason", "prompt_ids", "action_ids", "logprobs")
    return {name: getattr(turn, name) for name in names}


def _sample(
    turn: Mapping[str, Any], t: int, group: int, attempt: int, source: str, reward: float, chat: Chat
) -> Sample:
    prompt = turn.get("prompt_ids") or chat.encode(turn["messages"])
    ids, behaviour = turn.get("action_ids"), turn.get("logprobs")
    if ids is None:
        whole = turn["finish_reason"] == "stop"
        ids = chat.written(turn["text"]) if whole else chat.plain(turn["text"])
        behaviour = _recorded(turn.get("tokens") or [], ids, chat)
    return Sample(
        prompt, ids, None, turn["messages"], turn["text"], reward, list(turn.get("feedback") or []), group, attempt, t,
        source=source, behaviour=behaviour,
    )  # fmt: skip


def _recorded(tokens: Sequence[Mapping[str, Any]], ids: Sequence[int], chat: Chat) -> list[float] | None:
    """Log-probabilities as recorded, where the same tokens were; a run records four decimals."""
    if [token["text"] for token in tokens] != [chat.tokenizer.decode([i]) for i in ids]:
        return None
    values = [token["logp"] for token in tokens]
    return None if any(value is None for value in values) else values
