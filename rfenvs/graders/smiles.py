"""Which atoms a molecule in SMILES holds, hydrogens included: enough for formulas, masses and counts, no more.

Implied hydrogens follow OpenSMILES 1.0 (section 3.1.5): an atom outside square brackets fills up to its lowest normal
valence that its bonds fit into; an aromatic one gives one valence to the ring. Stereochemistry is read over. What
cannot be read raises; molecules are not checked for chemical sense.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from rfenvs.graders.chemistry import ChemistryError, Formula
from rfenvs.graders.elements import ATOMIC_WEIGHTS, ISOTOPES

LONGEST = 4000
_VALENCES = {
    "B": (3,), "C": (4,), "N": (3, 5), "O": (2,), "P": (3, 5), "S": (2, 4, 6),
    "F": (1,), "Cl": (1,), "Br": (1,), "I": (1,),
}  # fmt: skip
_BONDS = {"-": 1, "=": 2, "#": 3, "$": 4, ":": 1, "/": 1, "\\": 1}
_TOKEN = re.compile(
    r"\[(?P<isotope>\d{1,3})?(?P<symbol>[A-Z][a-z]?|se|as|te|[bcnops]|\*)@{0,2}(?:H(?P<h>\d?))?"
    r"(?P<charge>[+-]\d{1,2}|\++|-+)?(?::\d{1,4})?\]"
    r"|(?P<organic>Cl|Br|[BCNOPSFI]|[bcnops])|(?P<bond>[-=#$:/\\])|%(?P<ring2>\d\d)|(?P<ring>\d)|(?P<other>[().])"
)


@dataclass(slots=True)
class Atom:
    """One atom that is written; its hydrogens are counted, not atoms of their own."""

    element: str
    hydrogens: int
    charge: int
    isotope: int | None
    aromatic: bool
    bonds: int = 0
    """Sum of the orders of its bonds to other written atoms; an aromatic bond counts 1."""
    implied: bool = False
    """Whether the hydrogens are those that the valence implies."""


def read_atoms(smiles: str) -> list[Atom]:
    """Read the atoms of a SMILES string, of all its parts.

    >>> [(atom.element, atom.hydrogens) for atom in read_atoms("CC(=O)[O-].[Na+]")]
    [('C', 3), ('C', 0), ('O', 0), ('O', 0), ('Na', 0)]

    Raises:
        ChemistryError: It is no SMILES string, or longer than `LONGEST`.
    """
    text = smiles.strip()
    if not text or len(text) > LONGEST:
        raise ChemistryError("no SMILES string", 0, len(smiles))
    atoms: list[Atom] = []
    stack: list[int] = []
    rings: dict[int, tuple[int, int]] = {}
    last, order = -1, 0
    for match in _tokens(text):
        if bond := match["bond"]:
            order = _BONDS[bond]
        elif ring := match["ring2"] or match["ring"]:
            if last < 0:
                raise ChemistryError("a ring number before any atom", match.start(), match.end())
            number = int(ring)
            if number in rings:
                other, opened = rings.pop(number)
                _join(atoms, other, last, order or opened)
            else:
                rings[number] = (last, order)
            order = 0
        elif mark := match["other"]:
            if mark == "(":
                stack.append(last)
            elif mark == ")" and stack:
                last = stack.pop()
            elif mark == ")":
                raise ChemistryError("a bracket is closed that was not opened", match.start(), match.end())
            else:
                last = -1
            order = 0
        else:
            atoms.append(_atom(match))
            if last >= 0:
                _join(atoms, last, len(atoms) - 1, order)
            last, order = len(atoms) - 1, 0
    if stack or rings:
        raise ChemistryError("a ring or a bracket is left open", 0, len(smiles))
    for atom in atoms:
        if atom.implied:
            used = atom.bonds + atom.aromatic
            valences = _VALENCES[atom.element][:1] if atom.aromatic else _VALENCES[atom.element]
            atom.hydrogens = next((valence - used for valence in valences if valence >= used), 0)
    return atoms


def formula(smiles: str) -> Formula:
    """The sum formula of a SMILES string, of all its parts together.

    >>> formula("c1ccccc1O").counts
    {'C': 6, 'H': 6, 'O': 1}

    Raises:
        ChemistryError: It cannot be read.
    """
    return sum_formula(read_atoms(smiles))


def sum_formula(atoms: list[Atom]) -> Formula:
    """Count atoms by element, isotopes together."""
    counts: dict[str, int] = {}
    for atom in atoms:
        counts[atom.element] = counts.get(atom.element, 0) + 1
        if atom.hydrogens:
            counts["H"] = counts.get("H", 0) + atom.hydrogens
    return Formula(tuple(sorted(counts.items())), sum(atom.charge for atom in atoms))


def molar_mass(atoms: list[Atom]) -> float:
    """Molar mass in g/mol; a labelled atom weighs what its isotope does."""
    total = sum(atom.hydrogens for atom in atoms) * ATOMIC_WEIGHTS["H"]
    for atom in atoms:
        if atom.isotope is None:
            total += ATOMIC_WEIGHTS[atom.element]
        else:
            total += ISOTOPES.get((atom.element, atom.isotope), float(atom.isotope))
    return total


def donors(atoms: list[Atom]) -> int:
    """Hydrogen bond donors: N, O and S atoms that carry a hydrogen."""
    return sum(atom.element in ("N", "O", "S") and atom.hydrogens > 0 for atom in atoms)


def _tokens(text: str) -> Iterator[re.Match[str]]:
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ChemistryError(f'unexpected "{text[at]}"', at, at + 1)
        yield match
        at = match.end()


def _atom(match: re.Match[str]) -> Atom:
    if written := match["organic"]:
        return Atom(written.capitalize(), 0, 0, None, written.islower(), implied=True)
    symbol = match["symbol"].capitalize()
    if symbol not in ATOMIC_WEIGHTS:
        raise ChemistryError(f'there is no element "{symbol}"', match.start(), match.end())
    hydrogens = 0 if match["h"] is None else int(match["h"] or 1)
    isotope = int(match["isotope"]) if match["isotope"] else None
    return Atom(symbol, hydrogens, _charge(match["charge"]), isotope, match["symbol"].islower())


def _charge(text: str | None) -> int:
    if not text:
        return 0
    sign = 1 if text[0] == "+" else -1
    return sign * (int(text[1:]) if text[1:].isdigit() else len(text))


def _join(atoms: list[Atom], one: int, other: int, order: int) -> None:
    atoms[one].bonds += order or 1
    atoms[other].bonds += order or 1
