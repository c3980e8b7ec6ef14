"""In which words a hint reaches the teacher: the policy's own question, with the hint worked into it.

Source: SDPO (arXiv 2601.20802), teacher prompt construction: ``"paper"``, for questions with one answer. Its closing
sentence would be wrong for a turn of an episode, and the paper has none for it: the sentences for turns and episodes
are our reading. ``"turn"`` and ``"inline"`` are ours too, because a small model does not understand the paper's (see
docs/experiments.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agents.teachers.hints import Hint
from agents.trajectory import Message


@dataclass(frozen=True)
class Words:
    """The sentences around the parts of a hint; ``titles`` in the paper's form, ``notes`` in brackets."""

    titles: dict[str, str]
    notes: dict[str, str]
    ask: str
    """What the paper's form ends with."""
    shown: str = ""
    """Behind the question whose answer is shown as an earlier turn."""


_GIVEN_TITLES = {
    "failure": "The following other attempt failed:",
    "critique": "A critique of your earlier attempt:",
    "rubric": "What a good answer is judged by:",
    "strategy": "A plan that leads to the solution:",
    "reflection": "What went wrong in your earlier attempt, and what to do instead:",
    "playbook": "Lessons from earlier tasks:",
    "skill": "A skill that helps with tasks like this one:",
    "summary": "What sets attempts that succeeded apart from those that failed:",
    "rationale": "Why the solution is right:",
    "debate": "What others said about it:",
    "tag": "What kind of passage matters in your earlier attempt:",
    "own": "Your earlier attempt:",
    "demonstration": "An example of the same kind:",
}
_GIVEN_NOTES = {source: title.removesuffix(":") for source, title in _GIVEN_TITLES.items()}

QUESTION = Words(
    titles={
        "answer": "Correct solution:",
        "feedback": "The following is feedback from your unsuccessful earlier attempt:",
        **_GIVEN_TITLES,
    },
    notes={"feedback": "Feedback on an earlier attempt", **_GIVEN_NOTES},
    ask="Correctly solve the original question.",
)
"""A question with one answer."""

_ATTEMPT = "The following attempt at this task succeeded:"

TURN = Words(
    titles={
        "attempt": _ATTEMPT,
        "answer": "Correct next action:",
        "plan": "Correct actions from here:",
        "rest": "The following is what came after your earlier action at this point:",
        "feedback": "The following is feedback on your unsuccessful earlier action at this point:",
        **_GIVEN_TITLES,
    },
    notes={
        "attempt": "An attempt at this task that succeeded",
        "rest": "After an earlier action at this point",
        "feedback": "Feedback on an earlier action at this point",
        **_GIVEN_NOTES,
    },
    ask="Choose the correct next action.",
    shown="(An example of the correct next action:)",
)
"""The newest message of a turn."""

EPISODE = Words(
    titles={
        "attempt": _ATTEMPT,
        "answer": "Correct first action:",
        "plan": "Correct actions:",
        "feedback": "The following is feedback from your unsuccessful earlier attempt at this task:",
        **_GIVEN_TITLES,
    },
    notes={
        "attempt": "An attempt at this task that succeeded",
        "feedback": "Feedback on an earlier attempt at this task",
        **_GIVEN_NOTES,
    },
    ask="Correctly solve the task, one action at a time.",
    shown="(An example of the correct first action:)",
)
"""The task's own message, for all turns of the episode."""


def reworded(wording: str, messages: Sequence[Message], hint: Hint, words: Words = QUESTION) -> list[Message]:
    """The conversation with the hint worked into its last message.

    The student's own attempt is never shown: it is the thing being scored. In the wording "turn" only an answer to
    this very prompt becomes an earlier turn; everything else is noted in brackets.
    """
    *before, last = messages
    question = last["content"]

    def ask(content: str) -> Message:
        return {"role": last["role"], "content": content}

    if wording == "paper":
        told = "".join(f"\n{words.titles[part]}\n\n{text}\n" for part, text in _parts(hint))
        return [*before, ask(f"{question}{told}\n\n{words.ask}")]
    notes = [f"({words.notes[part]}: {text})" for part, text in _parts(hint) if part in words.notes]
    if wording == "inline":
        then = f"; then: {', '.join(hint.then)}" if hint.then else ""
        answer = f" (answer: {hint.answer}{then})" if hint.answer else ""
        return [*before, ask("\n\n".join([question, *notes]) + answer)]
    if hint.then:
        notes.append(f"(After {hint.answer}: {', '.join(hint.then)})")
    noted = ask("\n\n".join([question, *notes]))
    if not hint.answer:
        return [*before, noted]
    shown = f"{question}\n\n{words.shown}" if words.shown else question
    return [*before, ask(shown), {"role": "assistant", "content": hint.answer}, noted]


def _parts(hint: Hint) -> Iterator[tuple[str, str]]:
    if hint.attempt:
        yield "attempt", hint.attempt
    if hint.answer:
        yield ("plan", "\n".join([hint.answer, *hint.then])) if hint.then else ("answer", hint.answer)
    if hint.failure:
        yield "failure", hint.failure
    yield from hint.notes
    if hint.rest:
        yield "rest", hint.rest
    if hint.feedback:
        yield "feedback", hint.feedback
