"""Judges: whatever turns a question into the text of a verdict. `judge_http.HTTPJudge` is the one over a network.

A judge keeps what it needs in its fields and can be copied and pickled, so that it can be an argument of
`gymnasium.make`.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, get_args, runtime_checkable

from rfenvs.graders.judge_prompt import answer_in
from rfenvs.graders.rubric import CANARY, EXAMPLE, KEY, ONE_CALL, Criterion, JudgeError
from rfenvs.rows import DataError
from rfenvs.servers import Usage
from rfenvs.tasks import Message


@dataclass(frozen=True, slots=True)
class JudgeReply:
    """What a judge answered."""

    text: str
    usage: Usage = ONE_CALL
    finish_reason: str | None = "stop"
    """`stop`, `length`, `refusal` or `content_filter`; None where the judge does not say."""


@runtime_checkable
class JudgeClient(Protocol):
    """Anything that answers the messages of `judge_prompt.judge_messages`. It is called from several threads."""

    @property
    def name(self) -> str:
        """Who judges: feedback items have the source `judge:<name>`."""

    def complete(
        self, messages: Sequence[Message], *, schema: Mapping[str, Any], temperature: float, seed: int, timeout: float
    ) -> JudgeReply:
        """Answer once.

        Args:
            messages: A system and a user message.
            schema: JSON schema of the reply, for judges that can be held to one.
            temperature: 0 for the likeliest reply.
            seed: Two calls that are to differ have different ones.
            timeout: Seconds for one attempt.

        Raises:
            JudgeError: There is no reply to be had.
        """


@dataclass(frozen=True)
class CallableJudge:
    """A function in this process: a local engine, or the policy that is being trained.

    The function is given the messages, `temperature` and `seed`, and returns the text. Nothing bounds its time, and
    what it raises is passed on.
    """

    call: Callable[..., str | JudgeReply]
    name: str = "callable"

    def complete(
        self, messages: Sequence[Message], *, schema: Mapping[str, Any], temperature: float, seed: int, timeout: float
    ) -> JudgeReply:
        """Call the function."""
        reply = self.call([dict(message) for message in messages], temperature=temperature, seed=seed)
        return reply if isinstance(reply, JudgeReply) else JudgeReply(reply)


@dataclass(frozen=True)
class ScriptedJudge:
    """Replies that are known beforehand, by the hash of the question (`question_hash`); for tests."""

    script: Mapping[str, str]
    name: str = "scripted"

    def complete(
        self, messages: Sequence[Message], *, schema: Mapping[str, Any], temperature: float, seed: int, timeout: float
    ) -> JudgeReply:
        """Look the question up."""
        key = question_hash(messages)
        if key not in self.script:
            raise JudgeError("not_recorded", f"The script has no reply to the question {key}.", retryable=False)
        return JudgeReply(self.script[key])


def question_hash(messages: Sequence[Message], **settings: Any) -> str:
    """32 hexadecimal digits for a question, and the settings it is asked with where they are given."""
    text = json.dumps([list(messages), settings], sort_keys=True)
    return hashlib.blake2b(text.encode("ascii"), digest_size=16).hexdigest()


@dataclass(frozen=True)
class KeywordJudge:
    """Decides by the rule of each criterion (`rubric.Rule`): no model, no network, the same verdict always.

    It lets environments, tests and documentation run offline. It is no measure of quality: an answer that strings
    the right words together passes. A menu of more than two choices is climbed by the share of the rule's points that
    are met. The canary's verdict is always `no`.
    """

    criteria: tuple[Criterion, ...]
    name: str = "keyword"

    def complete(
        self, messages: Sequence[Message], *, schema: Mapping[str, Any], temperature: float, seed: int, timeout: float
    ) -> JudgeReply:
        """Apply the rules of the criteria that the schema asks for."""
        answer = answer_in(messages)
        asked = set(schema["properties"][KEY]["items"]["properties"]["name"]["enum"])
        verdicts = []
        if CANARY.name in asked:
            verdicts.append({"name": CANARY.name, "reason": "", "verdict": CANARY.choices[-1]})
        for criterion in self.criteria:
            if criterion.name in asked:
                verdicts.append(self._decide(criterion, answer))
        return JudgeReply(json.dumps({KEY: verdicts}))

    def _decide(self, criterion: Criterion, answer: str) -> dict[str, str]:
        if criterion.rule is None:
            text = f'The criterion "{criterion.name}" has no rule: give it one, or take a judge that reads.'
            raise JudgeError("no_rule", text, retryable=False)
        met, total = criterion.rule.points(answer)
        rank = (len(criterion.choices) - 1) * met // total
        reason = criterion.rule.hint or f"{met} of {total} points that count here are met."
        return {"name": criterion.name, "reason": reason, "verdict": criterion.choices[rank]}


# Recorded replies.


class _Cassette:
    """The replies in a file, read once; one writer a process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.Lock()
        self.replies: dict[str, JudgeReply] = {}
        self.torn = False
        """Whether the last line was cut off, as a killed run leaves it: it is not read, and not written on."""
        lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                entry = json.loads(line)
                reply = entry["reply"]
                usage = Usage(**reply["usage"])
                self.replies[entry["key"]] = JudgeReply(reply["text"], usage, reply["finish_reason"])
            except (ValueError, KeyError, TypeError) as error:
                if number < len(lines):
                    raise DataError(f"{path.name}, line {number}: not a recorded reply ({error}).") from error
                self.torn = True

    def add(self, key: str, messages: Sequence[Message], reply: JudgeReply) -> None:
        entry = {"key": key, "reply": asdict(reply), "messages": list(messages)}
        with self.lock:
            if key in self.replies:
                return
            self.replies[key] = reply
            with self.path.open("a", encoding="utf-8") as file:
                file.write("\n" * self.torn + json.dumps(entry) + "\n")
            self.torn = False


_cassettes: dict[tuple[int, Path], _Cassette] = {}
_cassettes_lock = threading.Lock()


def _forget_cassettes() -> None:
    """Another thread of the parent may have held the lock."""
    global _cassettes_lock
    _cassettes_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_cassettes)


@dataclass(frozen=True)
class ReplayJudge:
    """Replies from a JSONL file, one recorded reply a line: what was judged once is judged the same ever after.

    Args:
        path: The file. Each line holds the hash of a question with its settings, the reply, and the messages for
            people to read.
        record: A judge that is asked what the file does not hold, and whose replies are added to it. Without one a
            question that the file does not hold raises `JudgeError` (`not_recorded`).
        name: As in `JudgeClient`.
    """

    path: str | Path
    record: JudgeClient | None = None
    name: str = "replay"

    def complete(
        self, messages: Sequence[Message], *, schema: Mapping[str, Any], temperature: float, seed: int, timeout: float
    ) -> JudgeReply:
        """Look the question up, or ask and remember."""
        cassette = self._cassette()
        key = question_hash(messages, schema=schema, temperature=float(temperature), seed=seed)
        reply = cassette.replies.get(key)
        if reply is None:
            if self.record is None:
                text = f"{cassette.path.name} has no reply to this question (key {key}): record it with `record=`."
                raise JudgeError("not_recorded", text, retryable=False)
            reply = self.record.complete(messages, schema=schema, temperature=temperature, seed=seed, timeout=timeout)
            cassette.add(key, messages, reply)
        return reply

    def _cassette(self) -> _Cassette:
        path = Path(self.path).absolute()
        with _cassettes_lock:
            known = _cassettes.get((os.getpid(), path))
            if known is None:
                if self.record is None and not path.exists():
                    raise FileNotFoundError(f"path={os.fspath(self.path)!r}: no such file of recorded replies.")
                known = _cassettes[os.getpid(), path] = _Cassette(path)
            return known


# Faults.

Fault = Literal[
    "ok", "prose", "fenced", "reasoning", "echo", "timeout", "refusal", "empty", "truncated", "not_json", "off_menu",
    "duplicate", "missing", "unknown", "no_reason", "two_judgements", "repeated_key",
]  # fmt: skip
"""Ways of `FaultyJudge`."""
HARMLESS: frozenset[Fault] = frozenset({"ok", "prose", "fenced", "reasoning", "echo"})
"""Those that leave a judgement to be read; every other one must end in `JudgeError`."""


@dataclass(frozen=True)
class FaultyJudge:
    """Spoils the replies of another judge, in turn in each of the given ways: what code around judges must survive."""

    inner: JudgeClient
    faults: Sequence[Fault] = get_args(Fault)
    name: str = "faulty"
    _asked: list[None] = field(default_factory=list, repr=False, compare=False)

    def complete(
        self, messages: Sequence[Message], *, schema: Mapping[str, Any], temperature: float, seed: int, timeout: float
    ) -> JudgeReply:
        """Ask the other judge, and spoil the reply."""
        fault = self.faults[len(self._asked) % len(self.faults)]
        self._asked.append(None)
        if fault == "timeout":
            raise JudgeError("timeout", f"The judge did not answer within {timeout:g} s.", retryable=True)
        reply = self.inner.complete(messages, schema=schema, temperature=temperature, seed=seed, timeout=timeout)
        finish = {"refusal": "refusal", "truncated": "length"}.get(fault, reply.finish_reason)
        return JudgeReply(_spoil(fault, json.loads(reply.text)), reply.usage, finish)


def _spoil(fault: Fault, judgement: dict[str, Any]) -> str:
    verdicts = judgement[KEY]
    text = json.dumps(judgement)
    match fault:
        case "prose":
            return f"Let me see. A set such as {{1, 2}} is fine.\n{text}\nI hope that this helps {{you}}."
        case "fenced":
            return f"```json\n{json.dumps(judgement, indent=2)}\n```"
        case "reasoning":
            best = [{**verdict, "verdict": "yes"} for verdict in verdicts]
            return f"<think>First thought: {json.dumps({KEY: best})}. Or not.</think>\n{text}"
        case "echo":
            return f'The form is {json.dumps(EXAMPLE)}, an entry {{"name": "x", "verdict": "yes"}}.\n{text}'
        case "refusal" | "empty":
            return ""
        case "truncated":
            return text[: len(text) * 2 // 3]
        case "not_json":
            return text.replace('"', "'")
        case "off_menu":
            verdicts[0]["verdict"] = "excellent"
        case "duplicate":
            verdicts.append(dict(verdicts[0]))
        case "missing":
            verdicts.pop()
        case "unknown":
            verdicts[0]["name"] = "overall"
        case "no_reason":
            del verdicts[0]["reason"]
        case "two_judgements":
            return f"{text}\n{json.dumps({KEY: []})}"
        case "repeated_key":
            return text[:-1] + f', "{KEY}": []' + "}"
        case _:
            return text
    return json.dumps(judgement)
