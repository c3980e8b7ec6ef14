"""What cannot be read in an answer: the first piece, quoted as it was written."""

from __future__ import annotations

import re

LONGEST_QUOTE = 40
_KNOWN = (
    "frac dfrac tfrac cfrac sqrt pi infty cdot times div pm mp left right text textbf textit textrm textnormal mathrm "
    "mathbf mathit mathsf mathbb mathcal mbox hbox operatorname boxed fbox begin end sin cos tan cot sec csc sinh "
    "cosh tanh arcsin arccos arctan ln log exp lim max min gcd lcm det binom dbinom tbinom choose sum prod int iint "
    "oint partial nabla le leq leqslant ge geq geqslant lt gt ne neq approx equiv simeq sim cong in notin ni subset "
    "subseteq supset supseteq cup cap setminus emptyset varnothing backslash mid nmid to rightarrow Rightarrow "
    "leftarrow iff implies land lor wedge vee neg forall exists alpha beta gamma delta epsilon varepsilon zeta eta "
    "theta vartheta iota kappa lambda mu nu xi rho varrho sigma tau upsilon phi varphi chi psi omega Gamma Delta "
    "Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega circ degree prime angle triangle perp parallel overline underline "
    "bar hat vec dot ddot tilde widehat widetilde overrightarrow lfloor rfloor lceil rceil lvert rvert vert langle "
    "rangle lbrace rbrace lbrack rbrack quad qquad displaystyle textstyle limits nolimits big Big bigg Bigg bigl bigr "
    "Bigl Bigr dots ldots cdots mod pmod bmod imath jmath Re Im hline rm bf ast star bullet oplus otimes textdollar "
    "textpercent mathop underbrace overbrace stackrel overset underset cr phantom hspace mathring dotsc vdots ddots "
    "ell hbar "
)
_COMMANDS = frozenset(_KNOWN.split())
_PIECE = re.compile(r"\\(?:[a-zA-Z]+|.)|[a-zA-Z]+|\d+|\s+|.", re.S)
_KNOWN_SIGNS = frozenset("+-*/^_=<>!|'.,:;()[]{}&%$~\"?°")
_PROSE = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{3,}(?:\s+[a-zA-Z]{2,})+")


def first_bad_token(answer: str, inside: str = "") -> str:
    """The first piece of an answer that is no mathematics: an unknown command or sign, a brace left open.

    Args:
        answer: The whole, as written.
        inside: The part that could not be read, quoted where no single piece is to blame.

    >>> first_bad_token("\\\\frac{1}{2"), first_bad_token("3 \\\\foo 4"), first_bad_token("it is seven", "it is seven")
    ('{', '\\\\foo', 'it is seven')
    """
    open_braces: list[str] = []
    for match in _PIECE.finditer(answer):
        piece = match[0]
        if piece[0] == "\\" and piece[1:].isalpha() and piece[1:] not in _COMMANDS:
            return piece
        if piece == "{":
            open_braces.append(piece)
        elif piece == "}":
            if not open_braces:
                return piece
            open_braces.pop()
        elif len(piece) == 1 and not (piece.isalnum() or piece.isspace() or piece in _KNOWN_SIGNS):
            return piece
    if open_braces:
        return "{"
    if prose := _PROSE.search(answer):
        return prose[0][:LONGEST_QUOTE]
    piece = inside if inside and inside in answer else answer.strip()
    return piece[:LONGEST_QUOTE]


def unbalanced(text: str) -> bool:
    """Whether a brace lacks its other half."""
    depth = 0
    for index, char in enumerate(text):
        if char in "{}" and (index == 0 or text[index - 1] != "\\"):
            depth += 1 if char == "{" else -1
            if depth < 0:
                return True
    return depth > 0


def nesting(text: str) -> int:
    """How deep brackets stand within brackets."""
    depth = deepest = 0
    for char in text:
        if char in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in ")]}":
            depth -= 1
    return deepest


def is_prose(text: str) -> bool:
    """Whether words stand side by side outside of commands, as in `it is seven`."""
    return _PROSE.search(text) is not None
