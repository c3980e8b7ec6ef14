"""Multiple choice: which option an answer names, and whether its own working agrees with it."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rfenvs.graders.quantity import LONGEST, Quantity, normal_unit, numbers, plain, quantity, starts_with_unit
from rfenvs.graders.thinking import visible_span

State = Literal["ok", "no_answer", "several_answers", "not_an_option", "truncated"]
"""What became of reading an answer.

| state | means |
|---|---|
| `ok` | it names one option |
| `no_answer` | there is no answer where one belongs, or an empty one |
| `several_answers` | the answer names two options or more |
| `not_an_option` | the answer is neither the letter nor the text of an option |
| `truncated` | the reply ends inside its thoughts, or inside the answer |
"""

LETTERS = string.ascii_uppercase

_OPEN = re.compile(r"<answer>", re.IGNORECASE)
_CLOSE = re.compile(r"</answer>", re.IGNORECASE)
_BOX = re.compile(r"\\boxed\s*\{")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_MARKS = re.compile(r"\*\*|__|`|\\[()\[\]]|[\u200b-\u200f\u2060\ufeff]")
_AROUND = " \t\r\n\xa0*$`\"'“”‘’"
_FULL_WIDTH = str.maketrans({code + 0xFEE0: code for code in range(0x21, 0x7F)})
_WRAPPED = re.compile(r"\\(?:boxed|text|mathrm|textbf|mathbf)\s*\{(.*)\}", re.DOTALL)
_LETTER = re.compile(r"[(\[{]?([A-Za-z])[)\]}]?[.:,)]?")
_LEAD = re.compile(
    r"(?:the\s+)?(?:(?:final|correct|right|best)\s+)*(?:answer|option|choice)(?:\s+is)?\s*:?\s*(?:option\s+)?",
    re.IGNORECASE,
)
_LETTER_AND_TEXT = re.compile(r"[(\[]?([A-Za-z])(?:(?P<mark>\s*[)\]:]\s*|\s*[.,–—-]\s+)|\s+)(?P<text>\S.*)", re.DOTALL)
_NAMED = r"[(\[]?[a-z][)\]]?[.:]?"
_SEVERAL = re.compile(rf"{_NAMED}(?: ?(?:[,;/&]|and |or | )(?: ?(?:and|or) )? ?{_NAMED}){{1,25}}", re.IGNORECASE)
_RELATION = re.compile(r"(?:=|≈|≃|≅|\\approx|\\simeq|\\cong)\s*")
_OPERATOR = re.compile(r"\s*(?:[*×/^·⋅√]|[-+−]\s*[\d(.\\]|[x(]\s*\d|\\(?:times|cdot|div|sqrt|frac|cos|sin)|%)")
_SAME = 0.005
_APART = 0.002
_NEAR = 0.1
_FAR = 0.25
_LONGEST_CONTENT = 4000
_LONGEST_LIST = 100


@dataclass(frozen=True, slots=True)
class Choice:
    """What an answer chose."""

    state: State
    index: int | None = None
    """Number of the option from 0, where the state is `ok`."""
    span: tuple[int, int] | None = None
    """Code points of the reply that were read; the end of the reply where nothing was found."""

    @property
    def letter(self) -> str:
        """The option's letter; empty where none was read."""
        return "" if self.index is None else LETTERS[self.index]


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The working does not lead to the option that was chosen. No answer key is needed to see it."""

    code: Literal["working_is_option", "working_is_closer", "working_is_far"]
    value: str
    """The number as written."""
    index: int
    """The option that the number is, or is closest to."""
    span: tuple[int, int]


def read_choice(reply: str, options: Sequence[str], *, cut_off: bool = False) -> Choice:
    """Find the option that a reply chooses.

    What counts is the last `<answer>...</answer>` after the thoughts; without one the last `\\boxed{}`; without
    that the whole reply, if it is an answer and nothing else. Never a letter out of running text. An answer is a letter
    (`a`, `(B)`, `C.`, `Option D`), a letter with text (`A: 3 cm`), or an option's own text.

    Args:
        reply: The whole reply.
        options: Texts of the options, in the order shown; at most 26.
        cut_off: Whether the sampler ran out of tokens.

    >>> read_choice("3 + 4 = 7. <answer>B</answer>", ["6", "7"]).letter
    'B'
    >>> read_choice("It could be A or B.", ["6", "7"]).state
    'no_answer'
    """
    start, end = visible_span(reply)
    if end < len(reply):
        return Choice("truncated", span=(len(reply), len(reply)))
    opened = list(_OPEN.finditer(reply, start))
    if opened:
        begin = opened[-1].end()
        closed = _CLOSE.search(reply, begin)
        span = (begin, closed.start() if closed else len(reply))
        choice = _read(reply, span, options)
        if closed is None and (cut_off or choice.state != "ok"):
            return Choice("truncated", span=span)
        return choice
    boxes = list(_BOX.finditer(reply, start))
    if boxes:
        begin = boxes[-1].end()
        end = _closing_brace(reply, begin)
        return Choice("truncated", span=(begin, len(reply))) if end < 0 else _read(reply, (begin, end), options)
    choice = _read(reply, (start, len(reply)), options, strict=True)
    if choice.state in ("ok", "several_answers"):
        return choice
    return Choice("truncated" if cut_off else "no_answer", span=(len(reply), len(reply)))


def _closing_brace(reply: str, start: int) -> int:
    """Where the brace that was opened before `start` is closed; -1 where it is not, within the longest answer."""
    depth = 1
    for match in _BRACE.finditer(reply, start, start + _LONGEST_CONTENT):
        depth += {"{": 1, "}": -1}.get(match.group(), 0)
        if not depth:
            return match.start()
    return -1


def working_end(reply: str, choice: Choice) -> int:
    """Where the working ends: before the tag, or else the content, of the answer that was read."""
    assert choice.span is not None
    end = choice.span[0]
    return max((match.start() for match in _OPEN.finditer(reply, 0, end)), default=end)


def _read(reply: str, span: tuple[int, int], options: Sequence[str], *, strict: bool = False) -> Choice:
    """Read the content of an answer; blanks and marks around it are cut off the span.

    With `strict` a letter with text counts only where the text is the option's own: prose can begin with "A: ".
    """
    start, end = span
    while start < end and reply[start] in _AROUND:
        start += 1
    while end > start and reply[end - 1] in _AROUND:
        end -= 1
    content = reply[start:end]
    span = (start, end)
    if not content:
        return Choice("no_answer", span=span)
    if len(content) > _LONGEST_CONTENT:
        return Choice("not_an_option", span=span)
    while wrapped := _WRAPPED.fullmatch(content):
        content = wrapped.group(1).strip()
    index = _named(content, options)
    content = _MARKS.sub("", content).translate(_FULL_WIDTH).strip(_AROUND)
    letter = _option(_LETTER.fullmatch(content), options)
    if letter is None and index is not None:
        return Choice("ok", index, span)
    if lead := _LEAD.match(content):
        content = content[lead.end() :].strip()
        letter = _option(_LETTER.fullmatch(content), options)
    if letter is not None:
        return Choice("ok", letter, span)
    both = _LETTER_AND_TEXT.fullmatch(content)
    index = _option(both, options)
    if both is not None and index is not None and _spelled(both["text"]) == _spelled(options[index]):
        return Choice("ok", index, span)
    if len(content) <= _LONGEST_LIST and _SEVERAL.fullmatch(" ".join(content.split())):
        return Choice("several_answers", span=span)
    if both is not None and index is not None:
        named = _named(both["text"], options)
        if named is not None:
            same = _normal(options[index]) == _normal(options[named])
            return Choice("ok", index, span) if same else Choice("several_answers", span=span)
        if both["mark"] and not strict:
            others = {LETTERS.index(name) for name in re.findall(r"\b[A-Z]\b", both["text"])} - {index}
            several = any(other < len(options) for other in others)
            return Choice("several_answers", span=span) if several else Choice("ok", index, span)
    index = _named(content, options)
    return Choice("not_an_option", span=span) if index is None else Choice("ok", index, span)


def _option(match: re.Match[str] | None, options: Sequence[str]) -> int | None:
    """The option whose letter is the first group of a match; None where there is no such option."""
    index = len(options) if match is None else LETTERS.index(match.group(1).upper())
    return index if index < len(options) else None


def _named(text: str, options: Sequence[str]) -> int | None:
    """The option whose text this is; capitals count where options differ in nothing else."""
    for spell in (_spelled, _normal):
        found = [number for number, option in enumerate(options) if spell(option) == spell(text)]
        if found and len({_spelled(options[number]) for number in found}) == 1:
            return found[0]
    return None


def _normal(text: str) -> str:
    return _spelled(text).casefold()


def _spelled(text: str) -> str:
    text = plain(_MARKS.sub("", text).translate(_FULL_WIDTH))
    return re.sub(r"[\s{}]+", " ", text).strip(" .")


def final_number(working: str) -> tuple[Quantity, str] | None:
    """The number that a working ends at, and the text behind it; None unless it is plain which one that is.

    It stands behind the last `=` or `≈`, no operator follows it, and no other number comes after.

    >>> found = final_number("a*b = 6 * 7 = 42 cm, so the area is 42 cm.")
    >>> found and found[0].value
    42.0
    """
    offset = max(0, len(working) - LONGEST)
    body = plain(working)
    relations = list(_RELATION.finditer(body, offset))
    if not relations:
        return None
    found = list(numbers(working))
    at = relations[-1].end()
    first = next((number for number in found if number.start >= at), None)
    if first is None or body[at : first.start].strip() or _OPERATOR.match(body, first.end):
        return None
    for later in found:
        if later.start > first.start and not _close(later.value, first.value, _SAME):
            inside_unit = working[max(0, later.start - 2) : later.start].rstrip("{(").endswith("^")
            if not inside_unit:
                return None
    return first, working[first.end : first.end + 60]


def mismatch(reply: str, choice: Choice, options: Sequence[str]) -> Mismatch | None:
    """Compare the number that the working ends at with the options; None unless the case is clear.

    It takes options that are all one number and the same unit, and a working that ends at one number, in that unit or
    without any.

    >>> options = ["12 cm", "15 cm", "19 cm"]
    >>> reply = "The length is 3 * 5 = 15 cm. <answer>C</answer>"
    >>> mismatch(reply, read_choice(reply, options), options).code
    'working_is_option'
    """
    values = option_values(options)
    if choice.index is None or choice.span is None or values is None:
        return None
    found = final_number(reply[: working_end(reply, choice)])
    if found is None:
        return None
    number, behind = found
    unit = values[0].unit
    after = behind.lstrip(" ")
    bare = not after or after[0] in "\n.,;)]}\\<" or not normal_unit(after)
    same = bool(unit) and starts_with_unit(after, unit)
    if not (same or bare or not unit):
        return None
    gaps = [abs(value.value - number.value) for value in values]
    nearest = min(range(len(values)), key=gaps.__getitem__)
    span = (number.start, number.end)
    shown = reply[number.start : number.end]
    scale = max(abs(number.value), abs(values[nearest].value))
    others = [gap for index, gap in enumerate(gaps) if index != nearest]
    if nearest != choice.index:
        if gaps[nearest] <= _SAME * scale and min(others) > max(_APART * scale, 4 * gaps[nearest]):
            return Mismatch("working_is_option", shown, nearest, span)
        if (same or bare) and gaps[nearest] <= _NEAR * scale and gaps[choice.index] > 3 * gaps[nearest] > 0:
            return Mismatch("working_is_closer", shown, nearest, span)
    if same and gaps[nearest] > _FAR * scale:
        return Mismatch("working_is_far", shown, nearest, span)
    return None


def option_values(options: Sequence[str]) -> list[Quantity] | None:
    """The options as numbers, where each is one, all have the same unit and no two are equal."""
    values = [quantity(option) for option in options]
    known = [value for value in values if value is not None]
    if len(known) < len(options) or len({value.unit for value in known}) != 1:
        return None
    return known if len({value.value for value in known}) == len(known) else None


def _close(one: float, other: float, tolerance: float) -> bool:
    return abs(one - other) <= tolerance * max(abs(one), abs(other))
