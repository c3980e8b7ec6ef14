"""What a recipe may use while it makes the sequences of a step: models to ask, environments to try things in.

Everything is seeded by the step, so that a resumed run makes the same sequences again.
"""

from __future__ import annotations

import itertools
import random
import sys
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

import rfenvs
from agents.batch import Sample, View
from agents.chat import Chat
from agents.engines.base import Completion, Engine, Sampling
from agents.engines.hf import HFEngine, Scored
from agents.errors import SetupError
from agents.losses.fused import auto_chunk, token_stats
from agents.rollout import Environments
from agents.teachers.teacher import Teacher
from agents.trajectory import Group, Message, judged


@dataclass(frozen=True)
class Reply:
    """What a model said to some prompt."""

    prompt_ids: list[int]
    messages: list[Message]
    completion: Completion
    text: str
    """Decoded, stop token removed; empty where the prompt left no room."""
    by_policy: bool = True
    """Drawn from the very distribution that is trained: the policy's, at the sampling temperature."""

    def sample(self, group: int, attempt: int, source: str, *, under: View | None = None, **fields: Any) -> Sample:
        """The reply as a sequence to train on: under the prompt it answers, or ``under`` another one.

        Where that is not the distribution that it was drawn from, its log-probabilities are the sample's ``behaviour``.
        """
        own = self.by_policy and under is None
        messages, ids = (self.messages, self.prompt_ids) if under is None else (under.messages, under.ids)
        said = self.completion
        known = len(said.logprobs) == len(said.ids)  # a server may not say
        given: dict[str, Any] = {"reward": 0.0, "feedback": [], "turn": 0, **fields}
        return Sample(
            ids, said.ids, said.logprobs if own and known else None, messages, self.text, group=group, attempt=attempt,
            source=source, behaviour=None if own or not known else said.logprobs, **given,
        )  # fmt: skip


@dataclass(frozen=True)
class Attempt:
    """A reply that an environment judged."""

    group: int
    reply: Reply
    reward: float
    feedback: list[dict[str, object]]
    scored: bool


def opening(group: Group) -> list[Message]:
    """The task of a group as its first prompt says it; a bare user turn where no attempt got so far."""
    first = next((t.turns[0].messages for t in group.trajectories if t.turns), None)
    return list(first) if first else [{"role": "user", "content": ""}]


def question_of(group: Group) -> str:
    """The same in one text, to quote: examples that answer it are left out."""
    return "\n".join(m["content"] for m in opening(group) if m["role"] != "assistant")


@dataclass
class StepTools:
    """Made anew each step. Without an engine only the chat template is there, which is enough for most recipes."""

    chat: Chat
    limit: int = sys.maxsize
    """Longest sequence, prompt and action together, in tokens."""
    seed: str = ""
    """Another one each step, for whatever is drawn."""
    step: int = 0
    sampling: Sampling = field(default_factory=Sampling)
    engine: HFEngine | None = None
    """The policy's weights."""
    sampler: Engine | None = None
    """What samples from the policy; None: ``engine``."""
    teachers: dict[str, Teacher] = field(default_factory=dict)
    environments: Environments | None = None
    tasks: list[int] = field(default_factory=list)
    """The task of each group, as an index of the environments' split."""
    log: dict[str, float] = field(default_factory=dict)
    """Numbers for the metrics of the step."""
    _asked: int = 0

    def ask(
        self,
        conversations: Sequence[list[Message]],
        who: str = "policy",
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
    ) -> list[Reply]:
        """One reply to each conversation, in order, all in one batch; ``who``: ``"policy"`` or a teacher's name.

        ``max_tokens`` and ``temperature`` default to those of the rollout. Where a conversation leaves no room for a
        reply, the reply is empty.
        """
        views = [View(messages, self.chat.encode(messages)) for messages in conversations]
        return self.answer(views, who, max_tokens=max_tokens, temperature=temperature)

    def answer(
        self, views: Sequence[View], who: str, *, max_tokens: int | None = None, temperature: float | None = None
    ) -> list[Reply]:
        """`ask` with prompts whose ids are known, and not to be encoded again."""
        wanted = {"max_tokens": max_tokens, "temperature": temperature}
        sampling = self.sampling.model_copy(update={k: v for k, v in wanted.items() if v is not None})
        said = self._generate([view.ids for view in views], sampling, who, [view.messages for view in views])
        own = who == "policy" and sampling.temperature == self.sampling.temperature
        return [
            Reply(view.ids, view.messages, completion, self.chat.decode(completion.ids), own)
            for view, completion in zip(views, said, strict=True)
        ]

    def go_on(self, prompts: Sequence[list[int]], who: str, *, max_tokens: int) -> list[Completion]:
        """Continuations of token sequences, such as a prompt and the beginning of an answer."""
        return self._generate(list(prompts), self.sampling.model_copy(update={"max_tokens": max_tokens}), who)

    def _generate(
        self,
        prompts: list[list[int]],
        sampling: Sampling,
        who: str,
        conversations: Sequence[list[Message]] | None = None,
    ) -> list[Completion]:
        if not prompts:
            return []
        self._asked += 1
        seed = random.Random(f"{self.seed}:ask:{self._asked}").getrandbits(63)
        fits = [i for i, ids in enumerate(prompts) if len(ids) < self.limit]
        wanted = [prompts[i] for i in fits]
        if who == "policy":
            said = self._sampler().generate(wanted, sampling, seed) if wanted else []
        elif who in self.teachers:
            asked = None if conversations is None else [conversations[i] for i in fits]
            said = self.teachers[who].generate(wanted, sampling, seed, asked) if wanted else []
        else:
            raise SetupError(f"nobody called {who!r} can be asked; there are policy, {', '.join(self.teachers)}")
        result = [Completion([], [], "length")] * len(prompts)
        for i, completion in zip(fits, said, strict=True):
            result[i] = completion
        return result

    def attempt(
        self, requests: Sequence[tuple[int, list[Message]]], who: str = "policy", *, temperature: float | None = None
    ) -> list[Attempt]:
        """Sample from any prompt, and let the environment of the group's task judge the reply as its first action.

        ``requests``: (group, conversation). The environment does not know of the conversation: it judges an answer to
        its own question.
        """
        replies = self.ask([messages for _, messages in requests], who, temperature=temperature)
        return self.judge([(group, reply) for (group, _), reply in zip(requests, replies, strict=True)])

    def judge(self, replies: Sequence[tuple[int, Reply]]) -> list[Attempt]:
        """The environment's word on replies that were made already, as first actions of their groups' tasks."""
        environments, tasks = self._environments(), self.tasks

        def one(env: object, request: tuple[int, Reply]) -> Attempt:
            group, reply = request
            environments.start(env, tasks[group])  # type: ignore[arg-type]
            action = rfenvs.Action(
                reply.text, token_ids=reply.completion.ids, finish_reason=reply.completion.finish_reason
            )
            _, reward, _, _, info = env.step(action)  # type: ignore[attr-defined]
            number, scored = judged(str(tasks[group]), float(reward), bool(info.get("scored", True)))
            return Attempt(
                group, reply, number, list(info.get("feedback") or []), scored and bool(reply.completion.ids)
            )

        return environments.map(one, environments.take(len(replies)), replies)

    def grade(self, groups: Sequence[int], texts: Sequence[str]) -> list[float | None]:
        """Reward of each text as the first action of its group's task; None where it could not be scored."""
        return self._environments().grade([self.tasks[g] for g in groups], [rfenvs.Action(text) for text in texts])

    def gold(self, group: int) -> str | None:
        """The environment's own right answer to a task of one turn; None where it tells none.

        A reference: only for recipes whose settings allow it to be seen.
        """
        env = self._environments().take(1)[0].unwrapped
        if not isinstance(env, rfenvs.TextEnv):
            return None
        actions = env.gold_actions(env.get_task(self.tasks[group]))
        return actions[0] if len(actions) == 1 else None

    def measure(self, items: Sequence[Scored]) -> list[tuple[list[float], list[float]]]:
        """The policy now: (log-probability of each token of an action, entropy there), nats, for each item.

        At the sampling temperature, over the whole vocabulary.
        """
        if not items:
            return []
        if self.engine is None:
            raise SetupError("these tools have no engine to score with")
        hidden = self.engine.read(items)
        targets = torch.tensor([i for _, action in items for i in action], device=hidden.device)
        stats = token_stats(hidden, self.engine.head(), targets, temperature=self.sampling.temperature)
        lengths = [len(action) for _, action in items]
        columns = [torch.split(values.cpu(), lengths) for values in stats]
        return [(logp.tolist(), entropy.tolist()) for logp, entropy in zip(*columns, strict=True)]

    def logprobs(self, items: Sequence[Scored]) -> list[list[float]]:
        """The policy's log-probabilities of given actions: the first half of `measure`."""
        return [logp for logp, _ in self.measure(items)]

    @torch.no_grad()
    def among_likeliest(self, items: Sequence[Scored], k: int) -> list[list[bool]]:
        """Whether each token of given actions is among the policy's ``k`` likeliest at its place: one list an item."""
        if not items:
            return []
        if self.engine is None:
            raise SetupError("these tools have no engine to score with")
        hidden, head = self.engine.read(items), self.engine.head()
        targets = torch.tensor([i for _, action in items for i in action], device=hidden.device)
        found: list[bool] = []
        for rows in torch.split(torch.arange(len(targets)), auto_chunk(len(head.weight))):
            logits = head.logits(hidden[rows])
            better = logits > logits.gather(-1, targets[rows][:, None])
            found += (better.sum(-1) < k).tolist()
        cuts = list(itertools.accumulate((len(action) for _, action in items), initial=0))
        return [found[start:end] for start, end in itertools.pairwise(cuts)]

    def _sampler(self) -> Engine:
        if self.sampler is None and self.engine is None:
            raise SetupError("these tools have no engine to sample from")
        return self.sampler or self.engine  # type: ignore[return-value]

    def _environments(self) -> Environments:
        if self.environments is None:
            raise SetupError("these tools have no environments to try answers in")
        return self.environments


def golden(groups: Sequence[Group], tools: StepTools, only: Container[int] | None = None) -> list[Sample]:
    """The environment's own right answer to each group's first prompt, as a sequence of source ``"reference"``.

    ``only``: to these groups. Groups without a scored attempt, tasks whose answer is not one action, and answers that
    do not fit have none.
    """
    found = []
    for g, group in enumerate(groups):
        turn = next((t.turns[0] for t in group.scored() if t.turns), None)
        wanted = turn is not None and (only is None or g in only)
        answer = tools.gold(g) if wanted else None
        if turn is None or answer is None:
            continue
        ids = tools.chat.written(answer)
        if len(turn.prompt_ids) + len(ids) <= tools.limit:
            found.append(
                Sample(turn.prompt_ids, ids, None, turn.messages, answer, 1.0, [], g, 0, 0, source="reference")
            )
    return found


def beside(samples: Sequence[Sample], others: Sequence[Sample]) -> list[Sample]:
    """Both, the others behind the samples of their group: an optimiser step that has the one has the other."""
    return sorted([*samples, *others], key=lambda sample: sample.group)
