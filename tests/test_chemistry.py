"""Formulas, equations, masses, cells and SMILES."""

import doctest
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rfenvs.graders.chemistry
import rfenvs.graders.smiles
from rfenvs.graders.chemistry import (
    ChemistryError,
    balance,
    cell_volume,
    conservation,
    nullspace,
    parse_equation,
    parse_formula,
    readings,
    totals,
    write_equation,
)
from rfenvs.graders.elements import ATOMIC_WEIGHTS
from rfenvs.graders.smiles import donors, formula, molar_mass, read_atoms


@pytest.mark.parametrize(
    ("text", "counts", "charge"),
    [
        ("H2O", {"H": 2, "O": 1}, 0),
        ("H₂O(l)", {"H": 2, "O": 1}, 0),
        ("H_{2}O", {"H": 2, "O": 1}, 0),
        ("Ca(OH)2", {"Ca": 1, "O": 2, "H": 2}, 0),
        ("Pb[NO3]2", {"Pb": 1, "N": 2, "O": 6}, 0),
        ("K4[Fe(CN)6]", {"K": 4, "Fe": 1, "C": 6, "N": 6}, 0),
        ("CuSO4·5H2O", {"Cu": 1, "S": 1, "O": 9, "H": 10}, 0),
        ("CuSO4.5H2O (s)", {"Cu": 1, "S": 1, "O": 9, "H": 10}, 0),
        ("SO4^2-", {"S": 1, "O": 4}, -2),
        ("SO4^{2-}(aq)", {"S": 1, "O": 4}, -2),
        ("SO₄²⁻", {"S": 1, "O": 4}, -2),
        ("Al3{+}", {"Al": 3}, 1),
        ("I({-})", {"I": 1}, -1),
        ("Fe^+3", {"Fe": 1}, 3),
        ("NH4+", {"N": 1, "H": 4}, 1),
        ("e^-", {}, -1),
        ("D2O", {"D": 2, "O": 1}, 0),
        ("N2()", {"N": 2}, 0),
    ],
)
def test_formulas(text: str, counts: dict, charge: int) -> None:
    read = parse_formula(text)
    assert (read.counts, read.charge) == (counts, charge)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "water",
        "H2O)",
        "(OH",
        "()2",
        "H0",
        "2",
        "H2+O",
        "CuSO4·0H2O",
        "-H2",
        "(" * 50 + "H" + ")" * 50,
        "H" * 1000,
        "C1234567890",
    ],
)
def test_no_formulas(text: str) -> None:
    with pytest.raises(ChemistryError) as caught:
        parse_formula(text)
    assert 0 <= caught.value.start <= caught.value.end <= len(text)


def test_digits_before_a_bare_sign_have_two_readings() -> None:
    assert [(f.counts, f.charge) for f in readings("Fe2+")] == [({"Fe": 2}, 1), ({"Fe": 1}, 2)]
    assert [(f.counts, f.charge) for f in readings("Fe^2+")] == [({"Fe": 1}, 2)]


@pytest.mark.parametrize(
    ("text", "mass"),
    [
        ("H2O", 18.015),
        ("NaCl", 58.44),
        ("CuSO4·5H2O", 249.68),
        ("C6H12O6", 180.16),
        ("UO2(NO3)2", 394.03),
        ("D2O", 20.027),
    ],
)
def test_molar_masses(text: str, mass: float) -> None:
    assert parse_formula(text).mass == pytest.approx(mass, rel=1e-4)


def test_the_table_of_elements_is_whole() -> None:
    assert len(ATOMIC_WEIGHTS) == 118 + 2
    assert parse_formula("KlX2").unknown == ("Kl", "X")


@pytest.mark.parametrize(
    "text",
    [
        "2H2 + O2 = 2H2O",
        "2H2+O2=2H2O",
        "2 H2 + 1 O2 -> 2 H2O",
        "2H₂ + O₂ → 2H₂O.",
        "\\ce{2H2 + O2 -> 2H2O}",
        "$2H_2 + O_2 \\rightarrow 2H_2O$",
        "\\[ 2\\mathrm{H_{2}}(g) + \\mathrm{O_2}(g) \\longrightarrow 2\\,\\mathrm{H_2O}(l) \\]",
        "2*H2 + O2 <=> 2*H2O",
        "**2H2 + O2 ⟶ 2H2O**",
        "2 H2+ O2 ==> 2 H2O",
    ],
)
def test_ways_to_write_an_equation(text: str) -> None:
    equation = parse_equation(text)
    terms = [*equation.left, *equation.right]
    assert [int(term.coefficient) for term in terms] == [2, 1, 2]
    assert [term.readings[0].counts for term in terms] == [{"H": 2}, {"O": 2}, {"H": 2, "O": 1}]
    assert all(0 <= term.start < term.end <= len(text) for term in terms)


def test_a_plus_that_is_a_charge_does_not_cut() -> None:
    for text in ("Na+ + Cl- = NaCl", "Na^+ + Cl^- = NaCl", "Na^{+}+Cl^{-}=NaCl", "Na⁺ + Cl⁻ → NaCl"):
        equation = parse_equation(text)
        assert [term.readings[0].charge for term in equation.left] == [1, -1]
    equation = parse_equation("MnO4- + 5Fe2+ + 8H+ -> Mn2+ + 5Fe3+ + 4H2O")
    assert [len(side) for side in (equation.left, equation.right)] == [3, 3]


@pytest.mark.parametrize(
    ("text", "coefficient"),
    [("1/2 O2", Fraction(1, 2)), ("½O2", Fraction(1, 2)), ("2½ O2", Fraction(5, 2)), ("0.5 O2", Fraction(1, 2)),
     ("\\frac{3}{2}O2", Fraction(3, 2)), ("(7/2) O2", Fraction(7, 2)), ("0O2", Fraction(0)), ("1/0 O2", Fraction(0))],
)  # fmt: skip
def test_coefficients(text: str, coefficient: Fraction) -> None:
    assert parse_equation(f"{text} = O3").left[0].coefficient == coefficient


@pytest.mark.parametrize(
    ("text", "code", "piece"),
    [
        ("2H2 + O2", "no_arrow", None),
        ("H2 = H2 = H2", "several_arrows", "="),
        ("= H2", "empty_side", None),
        ("H2 + = H2O", "empty_summand", None),
        ("H2 + watr = H2O", "unreadable", "watr"),
        ("H" * 3000, "too_long", None),
        (" + ".join(["H2"] * 50) + " = H2", "too_long", None),
        ("", "no_arrow", None),
    ],
)
def test_what_is_no_equation(text: str, code: str, piece: str | None) -> None:
    with pytest.raises(ChemistryError) as caught:
        parse_equation(text)
    assert caught.value.code == code
    if piece is not None:
        assert text[caught.value.start : caught.value.end] == piece


@given(st.text(alphabet="HOCa2345()[]{}+-=> ^_·.\\ce½₂²⁺", max_size=60))
def test_junk_is_an_error_with_a_place(text: str) -> None:
    place = (0, 0)
    try:
        parse_equation(text)
    except ChemistryError as error:
        place = (error.start, error.end)
    assert 0 <= place[0] <= place[1] <= len(text)


@pytest.mark.parametrize(
    ("equation", "coefficients"),
    [
        ("C3H8 + O2 = CO2 + H2O", (1, 5, 3, 4)),
        ("MnO4^- + Fe^2+ + H^+ = Mn^2+ + Fe^3+ + H2O", (1, 5, 8, 1, 5, 4)),
        ("K4[Fe(CN)6] + H2SO4 + H2O = K2SO4 + FeSO4 + (NH4)2SO4 + CO", (1, 6, 6, 2, 1, 3, 6)),
        ("H2 = O2", None),
        ("H2 + O2 + H2O2 = H2O", None),
        ("Na = Na^+", None),
    ],
)
def test_balancing(equation: str, coefficients: tuple[int, ...] | None) -> None:
    read = parse_equation(equation)
    sides = [[term.readings[0] for term in side] for side in (read.left, read.right)]
    assert balance(*sides) == coefficients


matrices = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.lists(st.integers(-4, 4), min_size=width, max_size=width), min_size=1, max_size=4)
)


@given(matrices)
def test_the_nullspace_solves_and_has_the_right_size(rows: list[list[int]]) -> None:
    import numpy as np

    basis = nullspace(rows)
    assert len(basis) == len(rows[0]) - np.linalg.matrix_rank(np.array(rows))
    for vector in basis:
        assert all(sum(a * x for a, x in zip(row, vector, strict=True)) == 0 for row in rows)


@given(st.integers(1, 12), st.integers(1, 20), st.integers(0, 5))
def test_every_combustion_balances(carbon: int, hydrogen: int, oxygen: int) -> None:
    fuel = f"C{carbon}H{hydrogen}" + (f"O{oxygen}" if oxygen else "")
    left, right = [fuel, "O2"], ["CO2", "H2O"]
    formulas = [parse_formula(text) for text in left], [parse_formula(text) for text in right]
    coefficients = balance(*formulas)
    if coefficients is None:  # oxygen enough inside
        assert 2 * oxygen >= 4 * carbon + hydrogen
        return
    assert math.gcd(*coefficients) == 1
    equation = parse_equation(write_equation(left, right, coefficients))
    sums = [totals((t.coefficient, t.readings[0]) for t in side) for side in (equation.left, equation.right)]
    assert sums[0] == sums[1]
    assert len(conservation(*formulas)) == 4


def test_cells() -> None:
    assert cell_volume((4.0, 4.0, 4.0), (90.0, 90.0, 90.0)) == 64.0
    assert cell_volume((3.0, 3.0, 5.0), (90.0, 90.0, 120.0)) == pytest.approx(45 * math.sqrt(3) / 2)
    assert cell_volume((5.0, 6.0, 7.0), (90.0, 110.0, 90.0)) == pytest.approx(210 * math.sin(math.radians(110)))
    with pytest.raises(ValueError, match="no cell"):
        cell_volume((1.0, 1.0, 1.0), (90.0, 10.0, 120.0))


@pytest.mark.parametrize(
    ("smiles", "sum_formula", "mass", "donor_count"),
    [
        ("CCO", "C2H6O", 46.069, 1),
        ("CC(=O)Oc1ccccc1C(=O)O", "C9H8O4", 180.16, 1),
        ("CN1C=NC2=C1C(=O)N(C(=O)N2C)C", "C8H10N4O2", 194.19, 0),
        ("c1cc[nH]c1", "C4H5N", 67.09, 1),
        ("n1ccccc1", "C5H5N", 79.10, 0),
        ("c1ccsc1", "C4H4S", 84.14, 0),
        ("O=c1cc[nH]cc1", "C5H5NO", 95.10, 1),
        ("C[N+](C)(C)CC(=O)[O-]", "C5H11NO2", 117.15, 0),
        ("CS(=O)(=O)C", "C2H6O2S", 94.13, 0),
        ("OP(=O)(O)O", "H3PO4", 97.99, 3),
        ("[Na+].[Cl-]", "NaCl", 58.44, 0),
        ("F/C=C/F", "C2H2F2", 64.03, 0),
        ("C[C@H](N)C(=O)O", "C3H7NO2", 89.09, 2),
        ("C%10CCCCC%10", "C6H12", 84.16, 0),
        ("[2H]O[2H]", "H2O", 20.03, 0),
        ("ClC(Br)I", "CHClBrI", 255.28, 0),
        ("C#N", "CHN", 27.03, 0),
        ("CS", "CH4S", 48.11, 1),
    ],
)
def test_smiles(smiles: str, sum_formula: str, mass: float, donor_count: int) -> None:
    atoms = read_atoms(smiles)
    assert formula(smiles).atoms == parse_formula(sum_formula).atoms
    assert molar_mass(atoms) == pytest.approx(mass, abs=0.02)
    assert donors(atoms) == donor_count


@pytest.mark.parametrize("smiles", ["", "C(", "C)", "C1CC", "1CC1", "[C", "[Xx]", "Q", "C C", "C" * 5000])
def test_no_smiles(smiles: str) -> None:
    with pytest.raises(ChemistryError):
        read_atoms(smiles)


@given(st.text(alphabet="CNOSclnos()[]=#123%.+-@H", max_size=40))
def test_any_text_is_smiles_or_an_error(text: str) -> None:
    try:
        atoms = read_atoms(text)
    except ChemistryError:
        return
    assert all(atom.hydrogens >= 0 for atom in atoms)


@pytest.mark.parametrize("module", [rfenvs.graders.chemistry, rfenvs.graders.smiles])
def test_examples_in_docstrings(module: object) -> None:
    results = doctest.testmod(module)  # type: ignore[arg-type]
    assert results.attempted
    assert not results.failed
