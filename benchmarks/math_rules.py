"""Other graders' rules for math answers, written anew from what is known of them; and how a bare answer is taken out.

None of this is their code. What each does was read from descriptions and from its behaviour; `Rule.note` says what.
"""

from __future__ import annotations

import re

_ENVIRONMENTS = (
    re.compile(r"\$\$(.+?)\$\$", re.S),
    re.compile(r"\\\[(.+?)\\\]", re.S),
    re.compile(r"\\\((.+?)\\\)", re.S),
    re.compile(r"(?<!\\)\$(.+?)(?<!\\)\$", re.S),
)


def boxes(text: str) -> list[str]:
    """Contents of every balanced `\\boxed{...}`, in order."""
    found = []
    for match in re.finditer(r"\\f?boxed\s*\{", text):
        depth, start = 1, match.end()
        for position in range(start, len(text)):
            depth += {"{": 1, "}": -1}.get(text[position], 0) if text[position - 1] != "\\" else 0
            if depth == 0:
                found.append(text[start:position])
                break
    return found


_LINKS = re.compile(r"(?:\s|[,.;$]|\\\(|\\\)|\\\[|\\\]|\\quad|\\text\{[^{}]*\}|and|or)*")
_WORD = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{2,}")
_MAY_STAND = re.compile(r"percent(?:age)?|pct|and|or|miles|(?:the )?(?:final )?answer(?: is)?", re.I)


def stripped(text: str) -> str | None:
    """The bare answer within a text: its last box, else its formulas; None where it would have to be found in prose.

    Boxes with nothing but commas or "and" between them are one answer.
    """
    found = boxes(text)
    if found:
        pieces = re.split("|".join(re.escape(f"\\boxed{{{box}}}") for box in found), text)
        first = len(found) - 1
        while first > 0 and _LINKS.fullmatch(pieces[first]):
            first -= 1
        return ", ".join(found[first:]) + _unit(pieces[-1])
    for environment in _ENVIRONMENTS:
        formulas = environment.findall(text)
        outside = _MAY_STAND.sub("", environment.sub(" ", text))
        if not formulas:
            continue
        if _WORD.search(outside) and (len(formulas) > 1 or re.search(r"\d", outside)):
            return None
        return ", ".join(formula.strip() for formula in formulas) + _unit(environment.split(text)[-1])
    return None if _WORD.search(_MAY_STAND.sub("", re.sub(r"\\text\{[^{}]*\}", "", text))) else text.strip()


def _unit(after: str) -> str:
    unit = re.match(r"\s*\$?\s*(%|percent(?:age)?|pct|miles)", after)
    return f" {unit[1]}" if unit else ""


# --- rules of other graders -------------------------------------------------------------------------------------------


def same_string(gold: str, answer: str) -> bool:
    """DAPO with `strict_box_verify`: the last box, letter for letter."""
    return gold.strip() == answer.strip()


_UNITS = (
    "square ways integers dollars mph inches ft hours km units points feet minutes digits cents degrees cm gm pounds "
    "meters meals edges students multiples miles day days hour"
)
_UNIT_WORDS = _UNITS.split()


def minerva_form(text: str) -> str:
    """Minerva's normal form: the right side of the last `=`, without units, markup, blanks and dollar signs."""
    text = text.split("=")[-1]
    for old in ("\\left", "\\right", "\\%", "\\$", "$", " ", "^\\circ", "^{\\circ}", "\\!", "%"):
        text = text.replace(old, "")
    for word in _UNIT_WORDS:
        text = text.replace(word, "")
    text = re.sub(r"\\(?:text|textbf|mbox)\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"\\boxed\{(.*)\}", r"\1", text)
    text = re.sub(r"frac([^{])(.)", r"frac{\1}{\2}", text)
    text = re.sub(r"sqrt([^{])", r"sqrt{\1}", text)
    return text.replace(",", "") if text.replace(",", "").isdigit() else text


def dapo_minerva(gold: str, answer: str) -> bool:
    """DAPO's default: equal after Minerva's normal form; no computer algebra."""
    return minerva_form(gold) == minerva_form(answer)


def hendrycks_form(text: str) -> str:
    """The normal form of the MATH data set's own equality."""
    for old, new in (("\n", ""), ("\\!", ""), ("\\\\", "\\"), ("tfrac", "frac"), ("dfrac", "frac"), ("\\left", "")):
        text = text.replace(old, new)
    for old in ("\\right", "^{\\circ}", "^\\circ", "\\$", "\\%", "%"):
        text = text.replace(old, "")
    text = text.split("\\text{ ")[0]
    text = re.sub(r"(^|[ {])\.(?=\d)", r"\g<1>0.", text)
    sides = text.split("=")
    if len(sides) == 2 and len(sides[0].strip()) <= 2:
        text = sides[1]
    text = re.sub(r"\\sqrt([^{\[])", r"\\sqrt{\1}", text).replace(" ", "")
    text = re.sub(r"\\frac([^{])([^{])", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\\frac([^{])\{", r"\\frac{\1}{", text)
    if text == "0.5":
        return "\\frac{1}{2}"
    return re.sub(r"^(-?\d+)/(\d+)$", r"\\frac{\1}{\2}", text)


def hendrycks(gold: str, answer: str) -> bool:
    """Hendrycks' `is_equiv`: equal after that normal form."""
    return hendrycks_form(gold) == hendrycks_form(answer)


def prm800k(gold: str, answer: str) -> bool:
    """PRM800K's grader, which PRIME took over: normal forms, then parts of a tuple, then sympy on plain text.

    A whole number must be answered by a whole number, a fraction by the same fraction in lowest terms.
    """
    one, other = _plain_form(gold), _plain_form(answer)
    if hendrycks(gold, answer) or one == other:
        return True
    if not other:
        return False
    left, right = _tuple_parts(one), _tuple_parts(other)
    if len(left) != len(right) or (len(left) > 1 and (one[0], one[-1]) != (other[0], other[-1])):
        return False
    return all(_same_part(a, b) for a, b in zip(left, right, strict=True))


def _plain_form(text: str) -> str:
    text = re.sub(r"\\text\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}", r"((\1)/(\2))", text)
    text = re.sub(r"\\[dt]?frac(\d)(\d)", r"(\1/\2)", text)
    text = re.sub(r"\\sqrt\{([^{}]*)\}", r"sqrt(\1)", text)
    for word in _UNIT_WORDS:
        text = re.sub(rf"\b{word}\b", "", text)
    for old, new in (
        ("\\pi", "pi"),
        ("\\cdot", "*"),
        ("\\times", "*"),
        ("\\left", ""),
        ("\\right", ""),
        ("^\\circ", ""),
    ):
        text = text.replace(old, new)
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
    return re.sub(r"[\\$%{} ]", "", text).lower().rstrip(".")


def _tuple_parts(text: str) -> list[str]:
    if len(text) > 2 and text[0] in "([" and text[-1] in ")]" and "," in text:
        return text[1:-1].split(",")
    return [text]


def _same_part(gold: str, answer: str) -> bool:
    if gold == answer:
        return True
    if re.fullmatch(r"\(*-?\d+\)*/\(*\d+\)*", gold) and re.fullmatch(r"\(*-?\d+\)*/\(*\d+\)*", answer):
        return False
    if re.fullmatch(r"-?\d+", gold) and not re.fullmatch(r"-?\d+(?:\.0*)?", answer):
        return False
    if len(set(re.findall(r"[a-z]", re.sub(r"sqrt|pi", "", gold + answer)))) > 2 or "^(" in answer or "^{" in answer:
        return False
    import sympy
    from sympy.parsing.sympy_parser import (
        implicit_multiplication_application,
        parse_expr,
        standard_transformations,
    )

    if not re.fullmatch(r"[\w+\-*/^().,]*", gold + answer) or "__" in gold + answer:
        return False  # the text is evaluated as Python
    rules = (*standard_transformations, implicit_multiplication_application)
    try:
        difference = parse_expr(f"({gold})-({answer})".replace("^", "**"), transformations=rules)
        return bool(sympy.simplify(difference) == 0)
    except Exception:  # whatever the text makes Python raise
        return False


def math_verify(gold: str, answer: str, wrap: str = "{}") -> bool:
    """math-verify 0.9.0 with its defaults; `wrap` is put around both, such as `\\boxed{...}`."""
    from math_verify import parse, verify

    return bool(verify(parse(wrap.replace("{}", gold)), parse(wrap.replace("{}", answer))))


def sdpo(gold: str, answer: str) -> bool:
    """SDPO's scorer: equal strings, else math-verify on LaTeX without dollar signs or a box."""
    return same_string(gold, answer) or math_verify(gold, answer)
