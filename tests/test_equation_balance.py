"""Balancing equations: the verdicts, the words, the tasks made by rule, and the public rows."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rfenvs
from rfenvs import Action
from rfenvs.envs.equation_balance import EquationBalanceEnv, draw, load, reaction_of, split_of
from rfenvs.envs.equation_catalogue import FIXED, TEMPLATES, Draft
from rfenvs.graders.balancing import Reaction, grade
from rfenvs.graders.chemistry import balance, conservation, nullspace, parse_equation, totals
from rfenvs.rows import DataError
from tests.science_data import path

ID = "rfenvs/EquationBalance-v0"
PROPANE = reaction_of(("C3H8", "O2"), ("CO2", "H2O"))
IRON = reaction_of(("MnO4^-", "Fe^2+", "H^+"), ("Mn^2+", "Fe^3+", "H2O"))
GOLDEN = (
    "test-0-5b9c5282",
    "HNO3 + As2S3 + H2O = H2SO4 + NO + H3AsO4",
    "28HNO3 + 3As2S3 + 4H2O = 9H2SO4 + 28NO + 6H3AsO4",
)
PEROXIDE = reaction_of(("KMnO4", "H2O2", "H2SO4"), ("K2SO4", "MnSO4", "O2", "H2O"))


@pytest.mark.parametrize(
    ("reply", "reaction"),
    [
        ("C3H8 + 5O2 = 3CO2 + 4H2O", PROPANE),
        ("<answer>C3H8 + 5 O2 -> 3 CO2 + 4 H2O</answer>", PROPANE),
        ("<answer>5O2 + C3H8 = 4H2O + 3CO2</answer>", PROPANE),
        ("C: 3 = 3, H: 8 = 8.\n\nThe balanced equation is: C3H8 + 5O2 → 3CO2 + 4H2O.", PROPANE),
        ("C3H8 + 5O2 = 3CO2 + 4H2O\nCheck: O: 10 = 10", PROPANE),
        ("So \\boxed{\\ce{C3H8 + 5O2 -> 3CO2 + 4H2O}}.", PROPANE),
        (
            "\\[ \\boxed{\\mathrm{C_3H_8} + 5\\,\\mathrm{O_2} \\rightarrow 3\\mathrm{CO_2} + 4\\mathrm{H_2O}} \\]",
            PROPANE,
        ),
        ("<answer>\nBalanced: C3H8(g) + 5O2(g) = 3CO2(g) + 4H2O(l)\n</answer>", PROPANE),
        ("<think>C3H8 + O2 = CO2</think> `C3H8 + 5O2 = 3CO2 + 4H2O`", PROPANE),
        ("<answer>C3H8 + O2 = CO2</answer> no, <answer>C3H8 + 5O2 = 3CO2 + 4H2O</answer>", PROPANE),
        ("C3H8 + 2O2 + 3O2 = 3CO2 + 4H2O", PROPANE),
        ("2C3H8 + 10O2 = 6CO2 + 8H2O", PROPANE),
        ("MnO4^- + 5Fe^2+ + 8H^+ = Mn^2+ + 5Fe^3+ + 4H2O", IRON),
        ("MnO4⁻ + 5Fe²⁺ + 8H⁺ → Mn²⁺ + 5Fe³⁺ + 4H₂O", IRON),
        ("MnO4- + 5Fe2+ + 8H+ -> Mn2+ + 5Fe3+ + 4H2O", IRON),
        ("MnO_4^{-} + 5Fe^{2+} + 8H^{+} \\to Mn^{2+} + 5Fe^{3+} + 4H_2O", IRON),
        ("2KMnO4 + 5H2O2 + 3H2SO4 = K2SO4 + 2MnSO4 + 5O2 + 8H2O", PEROXIDE),
        ("2KMnO4 + 7H2O2 + 3H2SO4 = K2SO4 + 2MnSO4 + 6O2 + 10H2O", PEROXIDE),
    ],
)
def test_balanced_equations(reply: str, reaction: Reaction) -> None:
    outcome = grade(reply, reaction)
    assert outcome.right, outcome.items
    assert (outcome.readable, outcome.same_species, outcome.balanced) == (True, True, 1.0)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("C3H8 + O2 = CO2 + H2O", ["C: 3 on the left, 1 on the right.", "H: 8 on the left, 2 on the right.",
                                   "O: 2 on the left, 3 on the right."]),
        ("C3H8 + 5O2 = 3CO2 + 3H2O", ["H: 8 on the left, 6 on the right.", "O: 10 on the left, 9 on the right."]),
        ("3CO2 + 4H2O = C3H8 + 5O2", ["The two sides are swapped: keep the reactants on the left."]),
        ("C3H8 + 5O2 = 3CO2 + 4H2O2", ["H2O2 is not a species of the task.", "H2O is missing on the right."]),
        ("C3H8 = CO2 + H2O", ["O2 is missing on the left."]),
        ("C3H8 + 5O2 + 4H2O = 3CO2", ["H2O stands on the left; in the task it is on the right."]),
        ("C3H8 + 5O2 + N2 = 3CO2 + 4H2O + N2", ["N2 is not a species of the task."] * 2),
        ("1/5C3H8 + O2 = 3/5CO2 + 4/5H2O", ["The coefficient 1/5 of C3H8 is no whole number.",
                                            "The coefficient 3/5 of CO2 is no whole number.",
                                            "The coefficient 4/5 of H2O is no whole number."]),
        ("0C3H8 + 0O2 = 0CO2 + 0H2O", [f"The coefficient of {name} is 0: every species takes part."
                                       for name in ("C3H8", "O2", "CO2", "H2O")]),
        ("C3H8 + 5O2 = 3CO2 + 4water", ['"4water" cannot be read: unexpected "w".']),
        ("<answer>C3H8 + 5O2</answer>", ['The equation cannot be read: no "=" or arrow between the two sides.']),
        ("<answer>C3H8 + 5O2 = 3CO2 = 4H2O</answer>", ["The equation cannot be read: more than one arrow."]),
        ("C3H8 + 5O2 - 0H2O = 3CO2 + 4H2O", ['"5O2 - 0H2O" cannot be read: unexpected " ".']),
        ("C3H8 + 5O2 = 3CO2 + -4H2O", ['"-4H2O" cannot be read: unexpected "-".']),
        ("Five.", ["There is no equation: put it between <answer> and </answer>, as in A + B = C."]),
        ("<answer></answer>", ["There is no equation: put it between <answer> and </answer>, as in A + B = C."]),
        ("<think>C3H8 + 5O2 = 3CO2 + 4H2O", ["The reply ends before its answer is complete."]),
    ],
)  # fmt: skip
def test_what_is_said(reply: str, expected: list[str]) -> None:
    outcome = grade(reply, PROPANE)
    assert not outcome.right
    assert [entry["text"] for entry in outcome.items] == expected
    assert all(entry["leak_level"] == 0 for entry in outcome.items)


def test_charge_is_conserved_too() -> None:
    outcome = grade("MnO4^- + Fe^2+ + 8H^+ = Mn^2+ + Fe^3+ + 4H2O", IRON)
    assert [entry["text"] for entry in outcome.items] == ["Charge: +9 on the left, +5 on the right."]
    assert outcome.balanced == pytest.approx(4 / 5)


def test_spans_mark_what_is_blamed() -> None:
    reply = "It is <answer>C3H8 + 5O2 = 3CO2 + 4H2O2</answer>"
    span = grade(reply, PROPANE).items[0]["span"]
    assert reply[slice(*span)] == "4H2O2"
    reply = "It is <answer>C3H8 + 5O2 = 3CO2 + 4 steam</answer>"
    span = grade(reply, PROPANE).items[0]["span"]
    assert reply[slice(*span)] == "4 steam"


def test_lowest_terms_are_a_remark_or_a_demand() -> None:
    reply = "2C3H8 + 10O2 = 6CO2 + 8H2O"
    (remark,) = grade(reply, PROPANE).items
    assert (remark["severity"], remark["text"]) == ("info", "All coefficients can be divided by 2.")
    assert not grade(reply, PROPANE, lowest_terms=True).right
    assert grade("C3H8 + 5O2 = 3CO2 + 4H2O", PROPANE, lowest_terms=True).items == []
    assert not grade("C3H8 + 5O2 = 3CO2 + 4H2O", PROPANE, lowest_terms=True).items


@given(st.text(alphabet="C3H8O2 +=->→5/½\\{}^_()<answer>\n:", max_size=120))
def test_no_reply_breaks_the_grader(reply: str) -> None:
    outcome = grade(reply, PROPANE)
    assert outcome.right or outcome.items
    for entry in outcome.items:
        assert entry["span"] is None or 0 <= entry["span"][0] <= entry["span"][1] <= len(reply)


@pytest.mark.parametrize(
    "reply", ["+" * 10**6, "= " * 10**5, "\\boxed{" * 10**5, "(" * 10**5 + "=", "\n".join(["H2 = H2"] * 10**4)]
)
def test_long_replies_take_no_time(reply: str) -> None:
    import time

    start = time.process_time()
    assert not grade(reply, PROPANE).right
    assert time.process_time() - start < 2


@settings(max_examples=200)
@given(st.sampled_from(["train", "test"]), st.integers(0, 2**31 - 2))
def test_every_drawn_task_has_one_balancing_and_is_not_balanced_as_it_stands(split: str, index: int) -> None:
    name, reaction, reference = draw.__wrapped__(split, index)
    assert name in TEMPLATES
    assert split_of(reaction.left, reaction.right) == split
    assert len(nullspace(conservation(reaction.left_formulas, reaction.right_formulas))) == 1
    coefficients = balance(reaction.left_formulas, reaction.right_formulas)
    equation = parse_equation(reference)
    assert coefficients == tuple(int(term.coefficient) for term in (*equation.left, *equation.right))
    assert max(coefficients) > 1
    sums = [totals((t.coefficient, t.readings[0]) for t in side) for side in (equation.left, equation.right)]
    assert sums[0] == sums[1]


def test_every_fixed_reaction_is_used() -> None:
    from rfenvs.envs.equation_balance import _finish

    assert [reaction for reaction in FIXED if _finish(Draft(*reaction)) is None] == []


def test_splits_share_no_reaction() -> None:
    def reactions(split: str, count: int) -> set:
        drawn = [draw.__wrapped__(split, index)[1] for index in range(count)]
        return {(frozenset(reaction.left), frozenset(reaction.right)) for reaction in drawn}

    test = reactions("test", 1000)
    assert len(test) > 300
    assert not test & reactions("train", 3000)


def test_tasks_are_the_same_on_every_machine() -> None:
    task = rfenvs.get_task(ID, "test", 0)
    assert (task.id, task.messages[1]["content"], task.reference) == GOLDEN
    env = EquationBalanceEnv(split="test")
    assert env.task_index("test", task.id) == 0
    with pytest.raises(KeyError):
        env.task_index("test", "test-1-" + task.id[-8:])


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"lowest_terms": True},
        {"leak_level": 3, "max_turns": 3},
        {"leak_level": 0},
        {"data": "sample", "leak_level": 3},
    ],
)
def test_tasks_are_valid(split: str, kwargs: dict) -> None:
    report = rfenvs.validate(ID, split, 40, **kwargs)
    assert report.ok, str(report)
    assert not report.flagged


def test_the_teacher_is_told_the_answer_only_at_level_3() -> None:
    for level in (0, 1, 2, 3):
        env = EquationBalanceEnv(leak_level=level)
        env.reset(options={"task_index": 0})
        *_, info = env.step("C = C")
        codes = [entry["data"]["code"] for entry in info["feedback"]]
        assert ("expected" in codes) == (level == 3)


def test_a_reply_that_ran_out_of_tokens() -> None:
    env = EquationBalanceEnv()
    env.reset(options={"task_index": 0})
    *_, info = env.step(Action("We count the", finish_reason="length"))
    assert [entry["data"]["code"] for entry in info["feedback"]] == ["truncated"]


def test_the_public_keys_balance() -> None:
    file = path("raw_balancing_chemical_equation_sample40.jsonl")
    report = rfenvs.validate(ID, "test", 40, data=file, lowest_terms=True)
    assert (report.tasks, report.flagged) == (40, 0)
    assert report.ok, str(report)
    assert load(file, "test").excluded == ()


def rows(tmp_path: Path, *pairs: tuple[str, str]) -> str:
    file = tmp_path / "own.jsonl"
    lines = [json.dumps({"question": f"Balance:\n{question}", "answer": answer}) for question, answer in pairs]
    file.write_text("\n".join(lines), encoding="utf-8")
    return str(file)


def test_rows_that_are_wrong_are_flagged_or_left_out(tmp_path: Path) -> None:
    file = rows(
        tmp_path,
        ("H2 + O2 = H2O", "2H2 + O2 = 2H2O"),
        ("H2 + O2 = H2O", "H2 + O2 = H2O"),
        ("H2 + O2 = H2O = H2O", "2H2 + O2 = 2H2O"),
        ("C + O2 = CO2", "C + O2 = CO2"),
        ("H2 + Br0 = HBr", "H2 + Br0 = HBr0"),
    )
    data = load(file, "train")
    assert [[flag.partition(":")[0] for flag in flags] for *_, flags in data.tasks] == [
        [], ["known_bad"], ["known_bad"], ["no_op_passes"],
    ]  # fmt: skip
    assert data.excluded == ((5, "a count of 0"),)
    report = rfenvs.validate(ID, "train", 10, data=file)
    assert report.ok, str(report)
    with pytest.raises(DataError, match="no equation"):
        load(rows(tmp_path, ("x", "y")), "test")


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ValueError, match="lowest_terms='yes'"):
        EquationBalanceEnv(lowest_terms="yes")  # type: ignore[arg-type]
