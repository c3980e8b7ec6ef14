"""What can be computed from a SciKnowEval question itself, and what that says about an answer to it.

| check | questions | what is computed |
|---|---|---|
| `lattice_volume` | a, b, c, α, β, γ of a crystal | the volume of its unit cell |
| `molar_mass` | a molecule in SMILES | its sum formula and molar mass |
| `donors` | a molecule in SMILES | how many N, O and S atoms carry a hydrogen |
| `elements` | reactants and reagents in SMILES | which elements a product can hold |
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rfenvs.feedback import Item, item
from rfenvs.graders.chemistry import ChemistryError, Formula, cell_volume, parse_formula
from rfenvs.graders.choice import LETTERS, final_number, option_values
from rfenvs.graders.quantity import Quantity
from rfenvs.graders.smiles import Atom, donors, molar_mass, read_atoms, sum_formula

_LATTICE = re.compile(
    r"\ba = ([\d.]{1,12}) Å\s+b = ([\d.]{1,12}) Å\s+c = ([\d.]{1,12}) Å\s+"
    r"α = ([\d.]{1,12})[º°]\s+β = ([\d.]{1,12})[º°]\s+γ = ([\d.]{1,12})[º°]"
)
_SMILES = re.compile(r"SMILES representation '([^'\s]+)'")
_REACTANTS = re.compile(r"reactants and reagents[^\n]*:\n(\S+)")
_PRODUCT = re.compile(r"product", re.IGNORECASE)
_FORMULA = re.compile(
    r"(?i:formula)[^.\n]{0,60}?[:=\s*$(]\s*(?:\\(?:mathrm|ce|text)\{)?(?P<formula>(?:[A-Z][a-z]?(?:_?\{?\d{1,4}\}?)?){2,12})"
    r"(?![A-Za-z\d])"
)
_EXACT = 0.005
_ARITHMETIC = 0.002


@dataclass(frozen=True, slots=True)
class Check:
    """Something computed from a question. It never comes from the answer key."""

    kind: Literal["lattice_volume", "molar_mass", "donors", "elements"]
    value: float = math.nan
    """The right number, where the answer is one."""
    formula: Formula | None = None
    """The molecule's sum formula, for `molar_mass`."""
    elements: frozenset[str] = frozenset()
    """Elements of the reactants and reagents, for `elements`."""
    lengths: tuple[float, float, float] = (0.0, 0.0, 0.0)
    angles: tuple[float, float, float] = (90.0, 90.0, 90.0)

    def fits(self, values: Sequence[Quantity]) -> int:
        """The option closest to the computed number."""
        return min(range(len(values)), key=lambda index: abs(values[index].value - self.value))


def find_check(question: str, options: Sequence[str]) -> Check | None:
    """Compute what the question allows to compute; None where that is nothing."""
    try:
        if match := _LATTICE.search(question):
            a, b, c, alpha, beta, gamma = map(float, match.groups())
            volume = cell_volume((a, b, c), (alpha, beta, gamma))
            return _numeric(Check("lattice_volume", volume, lengths=(a, b, c), angles=(alpha, beta, gamma)), options)
        if match := _SMILES.search(question):
            atoms = read_atoms(match.group(1))
            if "molar weight" in question or "molar mass" in question:
                return _numeric(Check("molar_mass", molar_mass(atoms), sum_formula(atoms)), options)
            if "hydrogen bond donors" in question and not any(map(_disputed, atoms)):
                return _numeric(Check("donors", donors(atoms)), options)
            return None
        if (match := _REACTANTS.search(question)) and _PRODUCT.search(question):
            return Check("elements", elements=frozenset(_elements(match.group(1)) | {"H"}))
    except (ChemistryError, ValueError):  # the question holds no such thing after all
        return None
    return None


def contradiction(check: Check, options: Sequence[str], gold: int) -> str:
    """What the check has against the data's own answer; empty where it agrees."""
    if check.kind == "elements":
        foreign = _foreign(check, options[gold])
        return f"the key's product holds {' and '.join(foreign)}, which no reactant has" if foreign else ""
    values = option_values(options)
    assert values is not None
    best = check.fits(values)
    what = {"lattice_volume": "the cell's volume", "molar_mass": "the molar mass", "donors": "the count"}[check.kind]
    if best != gold:
        return f"another option than the key's is closest to {what} that follows from the question"
    return ""


def explain(check: Check, reply: str, answer_start: int, chosen: int, options: Sequence[str]) -> list[Item]:
    """Say what the check has against a wrong option.

    Args:
        check: Of the question.
        reply: The whole reply.
        answer_start: Where its answer begins; the working stands before.
        chosen: The wrong option.
        options: Texts of the options, as shown.
    """
    if check.kind == "elements":
        foreign = _foreign(check, options[chosen])
        if not foreign:
            return []
        names = " and ".join(foreign)
        text = f"Option {LETTERS[chosen]} holds {names}, which none of the reactants and reagents has."
        return [item("wrong_answer", text, leak_level=1, data={"code": "foreign_element", "elements": foreign})]
    values = option_values(options)
    if values is None:
        return []
    if check.kind == "donors":
        return _off("donors", check, values[chosen].value, None, _DONORS)
    number, span = _claimed(reply[:answer_start], values[chosen].value, check.value)
    if check.kind == "molar_mass" and (said := _formula_items(check, reply[:answer_start], number, span)):
        return said
    closest = check.fits(values)
    if min(range(len(values)), key=lambda index: abs(values[index].value - number)) == closest:
        return []  # the working is right, and the choice is not the one it leads to
    if check.kind == "lattice_volume":
        box = math.prod(check.lengths)
        if any(angle != 90.0 for angle in check.angles) and abs(number - box) <= _EXACT * box:
            named = zip("αβγ", check.angles, strict=True)
            oblique = " and ".join(f"{name} = {angle:g}°" for name, angle in named if angle != 90.0)
            text = f"{_write(number)} is a·b·c, the volume of a cell with right angles only; here {oblique}."
            return [item("wrong_answer", text, span=span, leak_level=1, data={"code": "volume_of_box"})]
        return _off("lattice_volume", check, number, span, _VOLUME)
    return _off("molar_mass", check, number, span, _MASS)


_VOLUME = (
    "The volume {} does not follow from the cell parameters: V = a·b·c·√(1 − cos²α − cos²β − cos²γ + 2·cosα·cosβ·cosγ)."
)
_MASS = (
    "The molar mass {} is not that of the molecule: count its atoms, implied hydrogens included, and add up their "
    "atomic weights."
)
_DONORS = "{} is not the number of hydrogen bond donors: count the N, O and S atoms that carry a hydrogen."


def _disputed(atom: Atom) -> bool:
    """Whether definitions of a hydrogen bond donor differ on an atom: ions, water, hydrogen sulphide."""
    charged = atom.charge != 0 and atom.hydrogens > 0
    return charged or (atom.element in ("O", "S") and atom.hydrogens > 1)


def _numeric(check: Check, options: Sequence[str]) -> Check | None:
    return check if option_values(options) is not None else None


def _elements(smiles: str) -> set[str]:
    return set(sum_formula(read_atoms(smiles)).counts)


def _foreign(check: Check, option: str) -> list[str]:
    """Elements of a product that no reactant or reagent has; none where it cannot be read."""
    try:
        return sorted(_elements(option) - check.elements)
    except ChemistryError:
        return []


def _claimed(working: str, fallback: float, scale: float) -> tuple[float, tuple[int, int] | None]:
    """The number that the working ends at, where it can be a value for the same thing; else the option's."""
    found = final_number(working)
    if found is None or not scale / 5 <= found[0].value <= scale * 5:
        return fallback, None
    return found[0].value, (found[0].start, found[0].end)


def _formula_items(check: Check, working: str, number: float, span: tuple[int, int] | None) -> list[Item]:
    """Compare the sum formula that the working states with the molecule's, and its number with that formula."""
    matches = list(_FORMULA.finditer(working, max(0, len(working) - 20_000)))
    if not matches or check.formula is None:
        return []
    written = matches[-1]["formula"]
    place = matches[-1].span("formula")
    try:
        stated = parse_formula(written)
    except ChemistryError:
        return []
    if stated.unknown or not {"C", "H"} <= set(stated.counts):
        return []
    items = []
    right, given = check.formula.counts, stated.counts
    off = sorted(symbol for symbol in {*right, *given} if right.get(symbol, 0) != given.get(symbol, 0))
    if off:
        text = f"{written} is not the molecule's formula: the number of {' and '.join(off)} atoms is wrong."
        items.append(item("wrong_answer", text, span=place, leak_level=1, data={"code": "formula", "elements": off}))
        more = [f"too {'many' if given.get(s, 0) > right.get(s, 0) else 'few'} {s}" for s in off]
        text = f"{written} has {', '.join(more)}."
        items.append(item("wrong_answer", text, span=place, leak_level=2, data={"code": "formula_relation"}))
    if span is not None and abs(number - stated.mass) > _ARITHMETIC * stated.mass:
        text = f"The molar mass of {written}, the formula in your working, is not {_write(number)}."
        items.append(item("wrong_answer", text, span=span, leak_level=0, data={"code": "arithmetic"}))
    return items


def _off(code: str, check: Check, number: float, span: tuple[int, int] | None, hint: str) -> list[Item]:
    """The hint, and how the number relates to the computed one."""
    if code == "donors":
        much = f"{_write(number)} is too {'many' if number > check.value else 'few'}."
    else:
        share = abs(number - check.value) / check.value
        size = f"by about {100 * share:.0f} %" if share >= 0.02 else "by little"
        much = f"{_write(number)} is too {'large' if number > check.value else 'small'}, {size}."
    return [
        item("wrong_answer", hint.format(_write(number)), span=span, leak_level=1, data={"code": code}),
        item("wrong_answer", much, span=span, leak_level=2, data={"code": f"{code}_relation"}),
    ]


def _write(number: float) -> str:
    return f"{number:.10g}"
