"""Templates of reactions that `rfenvs/EquationBalance-v0` draws from. Real chemistry where it is cheap to have.

A template draws reactants and products; whether they balance, and in one way only, is for the caller to find out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from random import Random
from typing import NamedTuple


class Draft(NamedTuple):
    """Reactants and products as text, before balancing."""

    left: tuple[str, ...]
    right: tuple[str, ...]
    spare: tuple[str, ...] = ()
    """Species that go on the side where balancing puts them, or on none: H^+ and H2O of a redox reaction."""


class Ion(NamedTuple):
    """A formula and the size of its charge."""

    text: str
    charge: int


CATIONS = tuple(
    Ion(*pair)
    for pair in (
        ("Li", 1), ("Na", 1), ("K", 1), ("Rb", 1), ("Cs", 1), ("NH4", 1), ("Mg", 2), ("Ca", 2), ("Sr", 2), ("Ba", 2),
        ("Mn", 2), ("Fe", 2), ("Co", 2), ("Ni", 2), ("Cu", 2), ("Zn", 2), ("Cd", 2), ("Sn", 2), ("Al", 3), ("Cr", 3),
        ("Fe", 3), ("Ga", 3), ("La", 3),
    )
)  # fmt: skip
METALS = tuple(ion for ion in CATIONS if ion.text != "NH4")
ACIDS = tuple(
    Ion(*pair)
    for pair in (
        ("F", 1), ("Cl", 1), ("Br", 1), ("I", 1), ("NO3", 1), ("ClO4", 1), ("CH3COO", 1), ("SO4", 2), ("C2O4", 2),
        ("PO4", 3), ("AsO4", 3),
    )
)  # fmt: skip
"""Anions of the acids H, H2 or H3 with them."""
NOT_OXIDISING = tuple(ion for ion in ACIDS if ion.text not in ("NO3", "ClO4", "AsO4"))
PRECIPITATES = (
    ("Ag", 1, "Cl", 1), ("Ag", 1, "Br", 1), ("Ag", 1, "I", 1), ("Ag", 1, "PO4", 3), ("Ag", 1, "CrO4", 2),
    ("Ag", 1, "CO3", 2), ("Ag", 1, "S", 2), ("Ba", 2, "SO4", 2), ("Ba", 2, "CrO4", 2), ("Ba", 2, "CO3", 2),
    ("Ba", 2, "PO4", 3), ("Ca", 2, "CO3", 2), ("Ca", 2, "PO4", 3), ("Ca", 2, "C2O4", 2), ("Ca", 2, "F", 1),
    ("Sr", 2, "SO4", 2), ("Sr", 2, "PO4", 3), ("Pb", 2, "I", 1), ("Pb", 2, "SO4", 2), ("Pb", 2, "CrO4", 2),
    ("Pb", 2, "Cl", 1), ("Pb", 2, "PO4", 3), ("Cu", 2, "S", 2), ("Cu", 2, "OH", 1), ("Cu", 2, "PO4", 3),
    ("Zn", 2, "S", 2), ("Zn", 2, "OH", 1), ("Zn", 2, "PO4", 3), ("Fe", 2, "S", 2), ("Fe", 3, "OH", 1),
    ("Fe", 3, "PO4", 3), ("Al", 3, "OH", 1), ("Al", 3, "PO4", 3), ("Mg", 2, "OH", 1), ("Mg", 2, "PO4", 3),
    ("Ni", 2, "OH", 1), ("Ni", 2, "PO4", 3), ("Co", 2, "PO4", 3), ("Mn", 2, "S", 2), ("Cr", 3, "OH", 1),
    ("Cr", 3, "PO4", 3), ("Cd", 2, "S", 2), ("Bi", 3, "S", 2), ("La", 3, "PO4", 3), ("La", 3, "F", 1),
)  # fmt: skip
SOLUBLE_PARTNERS = (Ion("Na", 1), Ion("K", 1), Ion("Li", 1), Ion("NH4", 1))
SOLUBLE_ANIONS = (Ion("NO3", 1), Ion("ClO4", 1), Ion("CH3COO", 1))
ACTIVE = ("Li", "Na", "K", "Rb", "Cs", "Mg", "Ca", "Sr", "Ba", "Al", "Mn", "Zn", "Cr", "Fe", "Cd", "Co", "Ni", "Sn")
"""Metals that drive hydrogen out of acids."""
SERIES = (
    Ion("Mg", 2), Ion("Al", 3), Ion("Mn", 2), Ion("Zn", 2), Ion("Cr", 3), Ion("Fe", 2), Ion("Cd", 2), Ion("Co", 2),
    Ion("Ni", 2), Ion("Sn", 2), Ion("Pb", 2), Ion("Cu", 2), Ion("Ag", 1), Ion("Au", 3),
)  # fmt: skip
"""The less noble first: each drives out those behind it."""
NONMETALS = (("O2", "O", 2), ("S8", "S", 2), ("N2", "N", 3), ("F2", "F", 1), ("Cl2", "Cl", 1), ("Br2", "Br", 1),
             ("I2", "I", 1), ("P4", "P", 3), ("Se8", "Se", 2))  # fmt: skip
OXIDES = ("Fe2O3", "Fe3O4", "CuO", "Cu2O", "Cr2O3", "MnO2", "Mn3O4", "WO3", "V2O5", "SnO2", "NiO", "PbO", "PbO2", "ZnO",
          "Co3O4", "MoO3", "Bi2O3", "TiO2", "Ag2O", "Nb2O5", "Ta2O5", "GeO2")  # fmt: skip
REDUCERS = (("H2", "H2O"), ("C", "CO2"), ("C", "CO"), ("CO", "CO2"), ("Al", "Al2O3"), ("Mg", "MgO"), ("Ca", "CaO"),
            ("Si", "SiO2"), ("Na", "Na2O"), ("CH4", "CO2 H2O"), ("NH3", "N2 H2O"))  # fmt: skip
HYDRATES = (("CuSO4", 5), ("MgSO4", 7), ("FeSO4", 7), ("ZnSO4", 7), ("Na2CO3", 10), ("Na2SO4", 10), ("CaCl2", 6),
            ("MgCl2", 6), ("CoCl2", 6), ("BaCl2", 2), ("NiSO4", 6), ("FeCl3", 6), ("Al(NO3)3", 9), ("CaSO4", 2),
            ("KAl(SO4)2", 12), ("Na2B4O7", 10), ("Cr(NO3)3", 9))  # fmt: skip
OXIDANTS = (
    ("MnO4^-", "Mn^2+"), ("Cr2O7^2-", "Cr^3+"), ("NO3^-", "NO"), ("NO3^-", "NO2"), ("ClO3^-", "Cl^-"),
    ("ClO4^-", "Cl^-"), ("BrO3^-", "Br^-"), ("IO3^-", "I^-"), ("PbO2", "Pb^2+"), ("BiO3^-", "Bi^3+"),
    ("MnO2", "Mn^2+"), ("S2O8^2-", "SO4^2-"), ("Ce^4+", "Ce^3+"), ("VO2^+", "VO^2+"), ("FeO4^2-", "Fe^3+"),
    ("HClO", "Cl^-"), ("Fe^3+", "Fe^2+"), ("H2O2", "H2O"), ("NO2^-", "NO"), ("Co^3+", "Co^2+"), ("Cl2", "Cl^-"),
)  # fmt: skip
REDUCTANTS = (
    ("Fe^2+", "Fe^3+"), ("Sn^2+", "Sn^4+"), ("C2O4^2-", "CO2"), ("H2C2O4", "CO2"), ("I^-", "I2"), ("Br^-", "Br2"),
    ("SO3^2-", "SO4^2-"), ("SO2", "SO4^2-"), ("H2S", "S"), ("NO2^-", "NO3^-"), ("H3AsO3", "H3AsO4"), ("Zn", "Zn^2+"),
    ("Cu", "Cu^2+"), ("Ag", "Ag^+"), ("S2O3^2-", "S4O6^2-"), ("C2H5OH", "CH3COOH"), ("HCHO", "HCOOH"),
    ("Ti^3+", "TiO^2+"), ("V^3+", "VO2^+"), ("H2O2", "O2"), ("Sb^3+", "Sb^5+"), ("As2S3", "H3AsO4 SO4^2-"),
    ("CuS", "Cu^2+ S"), ("P4", "H3PO4"), ("Cr^3+", "Cr2O7^2-"), ("Mn^2+", "MnO4^-"), ("HCOOH", "CO2"),
    ("U^4+", "UO2^2+"),
)  # fmt: skip
FIXED = tuple(
    (tuple(left.split()), tuple(right.split()))
    for left, _, right in (
        line.partition(" = ")
        for line in (
            "N2 H2 = NH3", "NH3 O2 = NO H2O", "NO O2 = NO2", "SO2 O2 = SO3", "P4 O2 = P4O10", "P4O10 H2O = H3PO4",
            "NO2 H2O = HNO3 NO", "H2S O2 = SO2 H2O", "H2S SO2 = S H2O", "CS2 O2 = CO2 SO2", "SiH4 O2 = SiO2 H2O",
            "B2H6 O2 = B2O3 H2O", "B2H6 H2O = H3BO3 H2", "PCl5 H2O = H3PO4 HCl", "PCl3 H2O = H3PO3 HCl",
            "SiCl4 H2O = SiO2 HCl", "CaC2 H2O = Ca(OH)2 C2H2", "Al4C3 H2O = Al(OH)3 CH4", "Mg3N2 H2O = Mg(OH)2 NH3",
            "Li3N H2O = LiOH NH3", "Ca3P2 H2O = Ca(OH)2 PH3", "KO2 CO2 = K2CO3 O2", "Na2O2 CO2 = Na2CO3 O2",
            "Na2O2 H2O = NaOH O2", "KClO3 = KCl O2", "KMnO4 = K2MnO4 MnO2 O2", "NH4NO3 = N2O H2O",
            "(NH4)2Cr2O7 = N2 Cr2O3 H2O", "NaN3 = Na N2", "C3H5N3O9 = CO2 H2O N2 O2", "Pb(NO3)2 = PbO NO2 O2",
            "Cu(NO3)2 = CuO NO2 O2", "AgNO3 = Ag NO2 O2", "NaNO3 = NaNO2 O2", "NaHCO3 = Na2CO3 H2O CO2",
            "KMnO4 HCl = KCl MnCl2 Cl2 H2O", "K2Cr2O7 HCl = KCl CrCl3 Cl2 H2O", "MnO2 HCl = MnCl2 Cl2 H2O",
            "KMnO4 FeSO4 H2SO4 = K2SO4 MnSO4 Fe2(SO4)3 H2O", "K2Cr2O7 FeSO4 H2SO4 = K2SO4 Cr2(SO4)3 Fe2(SO4)3 H2O",
            "KMnO4 Na2C2O4 H2SO4 = K2SO4 MnSO4 Na2SO4 CO2 H2O", "KMnO4 KI H2SO4 = K2SO4 MnSO4 I2 H2O",
            "K2Cr2O7 KI H2SO4 = K2SO4 Cr2(SO4)3 I2 H2O", "Cu HNO3 = Cu(NO3)2 NO H2O", "Cu HNO3 = Cu(NO3)2 NO2 H2O",
            "Ag HNO3 = AgNO3 NO H2O", "Zn HNO3 = Zn(NO3)2 NH4NO3 H2O", "Zn HNO3 = Zn(NO3)2 N2O H2O",
            "Mg HNO3 = Mg(NO3)2 N2 H2O", "Fe HNO3 = Fe(NO3)3 NO H2O", "Al HNO3 = Al(NO3)3 NO H2O",
            "P4 HNO3 H2O = H3PO4 NO", "S HNO3 = H2SO4 NO2 H2O", "I2 HNO3 = HIO3 NO2 H2O", "Sn HNO3 = SnO2 NO2 H2O",
            "As2S3 HNO3 H2O = H3AsO4 H2SO4 NO", "FeS2 O2 = Fe2O3 SO2", "Cu2S O2 = Cu2O SO2", "ZnS O2 = ZnO SO2",
            "PbS O2 = PbO SO2", "PbS H2O2 = PbSO4 H2O", "Cu2O Cu2S = Cu SO2", "CuFeS2 O2 = CuO Fe2O3 SO2",
            "Ca3(PO4)2 SiO2 C = CaSiO3 CO P4", "Ca3(PO4)2 H2SO4 = CaSO4 H3PO4", "Al2O3 C Cl2 = AlCl3 CO",
            "TiO2 C Cl2 = TiCl4 CO", "TiCl4 Mg = Ti MgCl2", "Al NaOH H2O = NaAl(OH)4 H2", "Zn NaOH H2O = Na2Zn(OH)4 H2",
            "Si NaOH H2O = Na2SiO3 H2", "Cl2 NaOH = NaCl NaClO H2O", "Cl2 NaOH = NaCl NaClO3 H2O",
            "Br2 KOH = KBr KBrO3 H2O", "I2 NaOH = NaI NaIO3 H2O", "P4 NaOH H2O = NaH2PO2 PH3",
            "I2 Na2S2O3 = NaI Na2S4O6",
            "Fe(OH)2 O2 H2O = Fe(OH)3", "Fe O2 H2O = Fe(OH)3", "Cr2O3 KNO3 K2CO3 = K2CrO4 KNO2 CO2",
            "MnO2 KOH O2 = K2MnO4 H2O", "K4[Fe(CN)6] Cl2 = K3[Fe(CN)6] KCl", "Au NaCN O2 H2O = NaAu(CN)2 NaOH",
            "Ag NaCN O2 H2O = NaAg(CN)2 NaOH", "FeCl3 KSCN = Fe(SCN)3 KCl", "NH3 F2 = N2F4 HF", "NH3 Cl2 = NH4Cl N2",
            "CO2 H2O = C6H12O6 O2", "C6H12O6 = C2H5OH CO2", "HClO3 = HClO4 ClO2 H2O", "NaBH4 BF3 = NaBF4 B2H6",
            "LiAlH4 BCl3 = B2H6 LiCl AlCl3", "UO2 HF = UF4 H2O", "XeF6 H2O = XeO3 HF",
            "PH3 O2 = P4O10 H2O", "N2H4 H2O2 = N2 H2O", "N2H4 N2O4 = N2 H2O", "H3BO3 = B2O3 H2O", "SF4 H2O = SO2 HF",
        )
    )
)  # fmt: skip
"""Reactions that no template makes."""


def salt(cation: Ion, anion: Ion) -> str:
    """The neutral formula of two ions.

    >>> salt(Ion("Al", 3), Ion("SO4", 2))
    'Al2(SO4)3'
    """
    common = math.lcm(cation.charge, anion.charge)
    return _times(cation.text, common // cation.charge) + _times(anion.text, common // anion.charge)


def _times(group: str, count: int) -> str:
    if count == 1:
        return group
    simple = re.fullmatch("[A-Z][a-z]?", group) is not None
    return f"{group}{count}" if simple else f"({group}){count}"


def _acid(anion: Ion) -> str:
    return anion.text + "H" if anion.text == "CH3COO" else _times("H", anion.charge) + anion.text


def _combustion(rng: Random) -> Draft:
    carbon = rng.randrange(1, 21)
    hydrogen = rng.randrange(1, carbon + 2) * 2
    oxygen = rng.choice((0, 0, 0, 1, 1, 2, 3, 4, 5, 6))
    fuel = "".join(f"{s}{n if n > 1 else ''}" for s, n in (("C", carbon), ("H", hydrogen), ("O", oxygen)) if n)
    return Draft((fuel, "O2"), ("CO2", "H2O"))


def _combustion_hetero(rng: Random) -> Draft:
    carbon = rng.randrange(1, 16)
    element, product = rng.choice((("N", "N2"), ("S", "SO2"), ("Cl", "HCl"), ("N", "NO2")))
    count = rng.randrange(1, min(4, carbon + 2))
    hydrogen = rng.randrange(count if element == "Cl" else 1, 2 * carbon + 3)
    fuel = "".join(f"{s}{n if n > 1 else ''}" for s, n in (("C", carbon), ("H", hydrogen), (element, count)))
    return Draft((fuel, "O2"), ("CO2", "H2O", product))


def _neutralisation(rng: Random) -> Draft:
    cation, anion = rng.choice(METALS), rng.choice(ACIDS)
    return Draft((_acid(anion), salt(cation, Ion("OH", 1))), (salt(cation, anion), "H2O"))


def _precipitation(rng: Random) -> Draft:
    cation, charge, anion, other = rng.choice(PRECIPITATES)
    metal, base = Ion(cation, charge), Ion(anion, other)
    partner, soluble = rng.choice(SOLUBLE_PARTNERS), rng.choice(SOLUBLE_ANIONS)
    return Draft((salt(metal, soluble), salt(partner, base)), (salt(metal, base), salt(partner, soluble)))


def _metal_and_acid(rng: Random) -> Draft:
    metal, anion = rng.choice([ion for ion in METALS if ion.text in ACTIVE]), rng.choice(NOT_OXIDISING)
    return Draft((metal.text, _acid(anion)), (salt(metal, anion), "H2"))


def _carbonate_and_acid(rng: Random) -> Draft:
    cation, anion = rng.choice([ion for ion in CATIONS if ion.charge < 3]), rng.choice(ACIDS)
    carbonate = Ion("HCO3", 1) if rng.random() < 0.3 else Ion("CO3", 2)
    return Draft((salt(cation, carbonate), _acid(anion)), (salt(cation, anion), "H2O", "CO2"))


def _oxide_and_acid(rng: Random) -> Draft:
    cation, anion = rng.choice(METALS), rng.choice(ACIDS)
    return Draft((salt(cation, Ion("O", 2)), _acid(anion)), (salt(cation, anion), "H2O"))


def _reduction(rng: Random) -> Draft:
    oxide, (agent, products) = rng.choice(OXIDES), rng.choice(REDUCERS)
    metal = re.match("[A-Z][a-z]?", oxide)
    assert metal is not None
    return Draft((oxide, agent), (metal.group(), *products.split()))


def _synthesis(rng: Random) -> Draft:
    metal, (molecule, symbol, charge) = rng.choice(METALS), rng.choice(NONMETALS)
    return Draft((metal.text, molecule), (salt(metal, Ion(symbol, charge)),))


def _displacement(rng: Random) -> Draft:
    less, more = sorted(rng.sample(range(len(SERIES)), 2))
    anion = rng.choice([ion for ion in ACIDS if ion.charge < 3])
    return Draft((SERIES[less].text, salt(SERIES[more], anion)), (salt(SERIES[less], anion), SERIES[more].text))


def _halogen(rng: Random) -> Draft:
    weak, strong = sorted(rng.sample(range(4), 2))
    halogens = ("I", "Br", "Cl", "F")
    metal = rng.choice(METALS)
    left = f"{halogens[strong]}2", salt(metal, Ion(halogens[weak], 1))
    return Draft(left, (salt(metal, Ion(halogens[strong], 1)), f"{halogens[weak]}2"))


def _hydroxide(rng: Random) -> Draft:
    metal = rng.choice(METALS)
    return Draft((salt(metal, Ion("OH", 1)),), (salt(metal, Ion("O", 2)), "H2O"))


def _hydrate(rng: Random) -> Draft:
    compound, water = rng.choice(HYDRATES)
    kept = rng.choice([0, 0, *range(1, water)])
    dried = f"{compound}·{kept if kept > 1 else ''}H2O" if kept else compound
    return Draft((f"{compound}·{water}H2O",), (dried, "H2O"))


def _ionic_redox(rng: Random) -> Draft:
    (oxidant, reduced), (reductant, oxidised) = rng.choice(OXIDANTS), rng.choice(REDUCTANTS)
    return Draft((oxidant, reductant), (*reduced.split(), *oxidised.split()), spare=("H^+", "H2O"))


def _fixed(rng: Random) -> Draft:
    return Draft(*rng.choice(FIXED))


TEMPLATES: dict[str, tuple[Callable[[Random], Draft], int]] = {
    "combustion": (_combustion, 3),
    "combustion_hetero": (_combustion_hetero, 3),
    "neutralisation": (_neutralisation, 2),
    "precipitation": (_precipitation, 3),
    "metal_and_acid": (_metal_and_acid, 2),
    "carbonate_and_acid": (_carbonate_and_acid, 2),
    "oxide_and_acid": (_oxide_and_acid, 2),
    "reduction": (_reduction, 2),
    "synthesis": (_synthesis, 2),
    "displacement": (_displacement, 2),
    "halogen": (_halogen, 1),
    "hydroxide": (_hydroxide, 1),
    "hydrate": (_hydrate, 2),
    "ionic_redox": (_ionic_redox, 4),
    "redox": (_fixed, 3),
}
"""How each template draws, and how often it is taken compared with the others."""
