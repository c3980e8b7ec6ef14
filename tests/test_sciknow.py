"""SciKnow: what the questions become, what the feedback says, and that the real keys hold."""

import itertools
import json
import re
from collections import Counter
from pathlib import Path

import gymnasium
import pytest

import rfenvs
from rfenvs import Action
from rfenvs.envs.sciknow import SciKnowEnv
from rfenvs.envs.sciknow_checks import contradiction, find_check
from rfenvs.envs.sciknow_data import ALSO_IN_TEST, SUBJECTS, load, order, parse
from rfenvs.graders.choice import LETTERS
from rfenvs.rows import DataError
from rfenvs.tasks import digest
from tests.science_data import path

ID = "rfenvs/SciKnow-v0"
FILES = [f"sciknoweval_{subject}_{split}" for subject, split in itertools.product(SUBJECTS, ("train", "test"))]
ROWS = {"biology": (450, 50), "chemistry": (1890, 210), "material": (841, 94), "physics": (720, 80)}
LATTICE = (
    "What is the volume of its unit cell?\n\na = {} Å\nb = {} Å\nc = {} Å\nα = {}º\nβ = {}º\nγ = {}º\n\n"
    "A: {} Å³\nB: {} Å³\nC: {} Å³\nD: {} Å³\nPlease reason step by step."
)
OBLIQUE = LATTICE.format(5, 6, 7, 90, 110, 90, "210.00", "71.82", "197.34", "186.50")
ASPIRIN = (
    "Take the molecule with the SMILES representation 'CC(=O)Oc1ccccc1C(=O)O'. What is its molar mass (g/mol)?\n\n"
    "A: 194.190\nB: 166.130\nC: 180.160\nD: 178.140"
)
ESTER = (
    "The reactants and reagents in SMILES:\nCC(=O)O.CCO.OS(=O)(=O)O\nWhich product forms?\n\n"
    "A: CCBr\nB: CC(N)=O\nC: COC(C)=O\nD: CCOC(C)=O"
)


def own(tmp_path: Path, prompt: str, answer: str, **kwargs: object) -> SciKnowEnv:
    """An environment with one question, its options as given."""
    file = tmp_path / f"own-{digest(prompt, answer)}.jsonl"
    file.write_text(json.dumps({"prompt": prompt, "answer": answer}), encoding="utf-8")
    return SciKnowEnv(data=str(file), **{"option_seed": None, **kwargs})  # type: ignore[arg-type]


def said(env: SciKnowEnv, reply: str) -> list[tuple[str, str]]:
    """Codes and texts of what a reply is told."""
    env.reset(options={"task_index": 0})
    *_, info = env.step(reply)
    return [(item["data"]["code"], item["text"]) for item in info["feedback"]]


def test_the_sample_is_32_questions_over_four_subjects() -> None:
    env = rfenvs.registry.make(ID, "train", data="sample")
    tasks = [env.get_task(i, split) for split in env.splits for i in range(env.num_tasks(split))]
    assert len({task.id for task in tasks}) == 32
    assert Counter(task.id.partition("-")[0] for task in tasks) == dict.fromkeys(SUBJECTS, 8)
    assert not any(task.flags for task in tasks)
    assert sum(task.data["check"] is not None for task in tasks) == 9


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("subject", [*SUBJECTS, "all"])
@pytest.mark.parametrize("leak_level", [0, 1, 2, 3])
def test_the_sample_is_valid(split: str, subject: str, leak_level: int) -> None:
    for turns in (1, 3):
        kwargs = {"data": "sample", "subject": subject, "leak_level": leak_level, "max_turns": turns}
        report = rfenvs.validate(ID, split, 40, **kwargs)
        assert report.ok, str(report)


def test_the_system_turn_says_how_many_options_there_are() -> None:
    env = rfenvs.registry.make(ID, "train", data="sample", subject="biology")
    two = env.get_task(4)
    assert len(two.data["options"]) == 2
    assert "two options, A and B, and exactly one" in two.messages[0]["content"]
    assert "four options, A, B, C and D, and" in env.get_task(0).messages[0]["content"]
    assert "step by step" not in two.messages[1]["content"]


def test_the_order_of_the_options_is_a_function_of_the_question_and_the_seed() -> None:
    envs = [rfenvs.registry.make(ID, "train", data="sample", option_seed=seed) for seed in (0, 0, 1, None)]
    shown = [[env.get_task(i).data["options"] for i in range(20)] for env in envs]
    assert shown[0] == shown[1]
    assert shown[0] != shown[2]
    assert all(sorted(a) == sorted(b) for a, b in zip(shown[0], shown[3], strict=True))
    for env in envs:
        for index in range(20):
            env.reset(options={"task_index": index})
            assert env.step(env.get_task(index).reference)[1] == 1.0


def test_options_that_refer_to_each_other_keep_their_order() -> None:
    questions = load("sample", "physics", "train").questions
    (both,) = [question for question in questions if "Both A and B" in question.options]
    assert all(order(both, seed) == (0, 1, 2, 3) for seed in range(20))
    free = next(question for question in questions if question is not both)
    assert len({order(free, seed) for seed in range(60)}) > 10


def test_shuffling_spreads_the_right_letter_evenly() -> None:
    question = load("sample", "physics", "train").questions[0]
    places = Counter(order(question, seed).index(question.right[0]) for seed in range(400))
    assert set(places) == {0, 1, 2, 3}
    assert min(places.values()) > 60


def test_metrics_count_letters_and_formats(tmp_path: Path) -> None:
    env = own(tmp_path, ASPIRIN, "C")
    env.reset()
    *_, info = env.step("<answer>b</answer>")
    assert info["metrics"] == {
        "format_ok": 1, "options": 4, "has_check": 1, "chosen_A": 0, "chosen_B": 1, "chosen_C": 0, "chosen_D": 0,
    }  # fmt: skip
    env.reset()
    _, reward, terminated, _, info = env.step("B or C")
    assert (reward, terminated, info["stop_reason"]) == (0.0, True, "parse_error")
    assert info["metrics"]["format_ok"] == 0


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (
            "It is C.",
            [("no_answer", "There is no answer: put the letter of one option between <answer> and </answer>.")],
        ),
        ("<answer>A, C</answer>", [("several_answers", "The answer names several options: give one letter.")]),
        ("<answer>F</answer>", [("not_an_option", "The answer is not an option: give one letter from A to D.")]),
        ("<think>so", [("truncated", "The reply ends before its answer is complete.")]),
        ("<answer>B</answer>", [("molar_mass", None), ("wrong_option", "Option B is not the right one.")]),
        (
            "The molecular formula is C9H10O4, so M = 182.17 g/mol. <answer>D</answer>",
            [
                ("formula", "C9H10O4 is not the molecule's formula: the number of H atoms is wrong."),
                ("wrong_option", "Option D is not the right one."),
            ],
        ),
        (
            "Formula: C9H8O4. M = 178.14 g/mol. <answer>D</answer>",
            [
                ("arithmetic", "The molar mass of C9H8O4, the formula in your working, is not 178.14."),
                ("wrong_option", "Option D is not the right one."),
            ],
        ),
        (
            "Formula: C9H8O4. M = 180.16 <answer>D</answer>",
            [
                ("working_is_option", "Your working ends at 180.16, which is option C; you chose D."),
                ("wrong_option", "Option D is not the right one."),
            ],
        ),
    ],
)
def test_feedback_on_a_molar_mass(tmp_path: Path, reply: str, expected: list) -> None:
    found = said(own(tmp_path, ASPIRIN, "C"), reply)
    assert [code for code, _ in found] == [code for code, _ in expected]
    assert all(text == wanted for (_, text), (_, wanted) in zip(found, expected, strict=True) if wanted)


def test_feedback_on_a_volume(tmp_path: Path) -> None:
    env = own(tmp_path, OBLIQUE, "C", leak_level=2)
    box = said(env, "V = 5 * 6 * 7 = 210 Å³. <answer>A</answer>")
    assert box[0] == ("volume_of_box", "210 is a·b·c, the volume of a cell with right angles only; here β = 110°.")
    off = said(env, "V = 71.8 Å^3. <answer>B</answer>")
    assert off[0][0] == "lattice_volume"
    assert "1 − cos²α − cos²β − cos²γ" in off[0][1]
    assert off[1] == ("lattice_volume_relation", "71.8 is too small, by about 64 %.")
    right = said(env, "V = 197.3 Å³. <answer>D</answer>")
    assert [code for code, _ in right] == ["working_is_option", "wrong_option"]


def test_feedback_on_a_product_and_on_donors(tmp_path: Path) -> None:
    env = own(tmp_path, ESTER, "D")
    assert said(env, "<answer>A</answer>")[0] == (
        "foreign_element", "Option A holds Br, which none of the reactants and reagents has.",
    )  # fmt: skip
    assert [code for code, _ in said(env, "<answer>C</answer>")] == ["wrong_option"]
    prompt = "How many hydrogen bond donors has the molecule with the SMILES representation 'OCC(O)CO'?\n\nA: 2\nB: 3"
    env = own(tmp_path, prompt, "B", leak_level=2)
    assert [code for code, _ in said(env, "<answer>A</answer>")] == ["donors", "donors_relation", "wrong_option"]


def test_leak_levels_decide_what_is_said(tmp_path: Path) -> None:
    reply = "Formula: C9H8O4. M = 178.14 <answer>D</answer>"
    codes = [{code for code, _ in said(own(tmp_path, ASPIRIN, "C", leak_level=n), reply)} for n in (0, 1, 2, 3)]
    assert codes == [
        {"arithmetic"},
        {"arithmetic", "wrong_option"},
        {"arithmetic", "wrong_option"},
        {"arithmetic", "wrong_option", "expected"},
    ]
    env = own(tmp_path, ASPIRIN, "C", leak_level=3)
    env.reset()
    observation, *_, info = env.step(reply)
    (item,) = [item for item in info["feedback"] if item["kind"] == "reference"]
    assert (item["text"], item["visibility"]) == ("The right option is C: 180.160.", "teacher")
    assert item["text"] not in observation


def test_a_check_never_needs_the_key(tmp_path: Path) -> None:
    texts = [said(own(tmp_path, ASPIRIN, key, leak_level=2), "<answer>B</answer>") for key in "CD"]
    assert texts[0] == texts[1]


def test_a_reply_that_ran_out_of_tokens(tmp_path: Path) -> None:
    env = own(tmp_path, ASPIRIN, "C")
    env.reset()
    *_, info = env.step(Action("We count the atoms", finish_reason="length"))
    assert [item["data"]["code"] for item in info["feedback"]] == ["truncated"]


def test_several_turns(tmp_path: Path) -> None:
    env = own(tmp_path, ASPIRIN, "C", max_turns=3)
    env.reset()
    observation, reward, terminated, truncated, _ = env.step("<answer>B</answer>")
    assert (reward, terminated, truncated) == (0.0, False, False)
    assert "Option B is not the right one." in observation
    assert env.step("<answer>C</answer>")[1:4] == (1.0, True, False)


def test_flags_of_questions_that_cannot_be_answered() -> None:
    repeated = parse({"prompt": "How long?\n\nA: 2 s\nB: 2 s\nC: 6 s", "answer": "A"}, "physics")
    assert repeated.right == (0, 1)
    assert repeated.flags == ("known_bad: options repeat the text that the key means",)
    assert parse({"prompt": "How long?\n\nA: 2 s\nB: 2 s\nC: 6 s", "answer": "C"}, "physics").flags == ()
    rest = "A rod carries a current of 1\n\nA: Calculate the field. Select the closest.\nB: 1 T\nC: 2 T\nD: 3 T"
    assert parse({"prompt": rest, "answer": "A"}, "physics").flags[0].startswith("known_bad: option A holds the rest")
    assert parse({"prompt": rest, "answer": "C"}, "physics").flags == ()
    assert parse({"prompt": rest, "answer": "C"}, "physics").ordered
    assert parse({"prompt": ASPIRIN, "answer": "B"}, "chemistry").flags[0].startswith("known_bad: another option")


def test_files_of_ones_own(tmp_path: Path) -> None:
    raw = {
        "question": "1 + 1?",
        "choices": {"text": ["2", "3"], "label": ["A", "B"]},
        "answerKey": "A",
        "domain": "Physics",
    }
    file = tmp_path / "raw.jsonl"
    file.write_text("\n".join([json.dumps(raw)] * 2), encoding="utf-8")
    env = SciKnowEnv(data=str(file), subject="physics")
    assert [env.get_task(i).source for i in range(2)] == ["file", "file"]
    assert len({env.get_task(i).id for i in range(2)}) == 2
    with pytest.raises(DataError, match="no question of subject='biology'"):
        SciKnowEnv(data=str(file), subject="biology").num_tasks("train")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "Why?", "answer": "A"}, 'no line "A: ..."'),
        ({"prompt": "Why?\n\nA: x\nB: y", "answer": "C"}, "none of the 2 options"),
        ({"prompt": "Why?\n\nA: x\nC: y", "answer": "A"}, "named A, C"),
        ({"prompt": "Why?"}, '"answer"'),
        ({"question": "Why?", "choices": {}, "answerKey": "A"}, '"choices"'),
    ],
)
def test_damaged_rows_are_named(tmp_path: Path, row: dict, message: str) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text(json.dumps(row), encoding="utf-8")
    with pytest.raises(DataError, match="bad.jsonl, line 1.*" + re.escape(message)):
        SciKnowEnv(data=str(file)).num_tasks("train")


@pytest.mark.parametrize("kwargs", [{"subject": "history"}, {"option_seed": "x"}, {"leak_level": 7}])
def test_wrong_settings_are_named(kwargs: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        SciKnowEnv(data="sample", **kwargs)


# The public data.


@pytest.mark.parametrize("name", FILES)
def test_the_right_option_pays_and_no_other_does(name: str) -> None:
    file, (_, subject, split) = path(f"{name}.jsonl"), name.split("_")
    env = gymnasium.make(ID, split=split, data=file, subject=subject, disable_env_checker=True).unwrapped
    assert isinstance(env, SciKnowEnv)
    assert env.num_tasks(split) == ROWS[subject][split == "test"]
    for index in range(env.num_tasks(split)):
        task = env.get_task(index)
        for letter in LETTERS[: len(task.data["options"])]:
            verdict = env.grade(task, Action(f"<answer>{letter}</answer>"), 0)
            assert verdict.reward == float(letter in task.data["right"])
            assert bool(verdict.feedback) == (verdict.reward == 0)
            right = task.data["options"][LETTERS.index(task.data["right"][0])].split()[0]
            told = " ".join(item["text"] for item in verdict.feedback if item["leak_level"] < 3)
            assert verdict.reward or task.data["check"] is None or len(right) < 4 or right not in told
        assert len(task.data["right"]) == 1 or task.flags


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_the_public_data_are_valid(name: str) -> None:
    file, (_, subject, split) = path(f"{name}.jsonl"), name.split("_")
    report = rfenvs.validate(ID, split, 10_000, data=file, subject=subject, leak_level=3)
    assert report.ok, str(report)


def test_labels_agree_with_what_can_be_computed() -> None:
    checked, agree, refuted = Counter(), Counter(), 0
    for name in FILES:
        if name == "sciknoweval_physics_test":
            continue
        _, subject, split = name.split("_")
        for question in load(path(f"{name}.jsonl"), subject, split).questions:
            check = find_check(question.stem, question.options)
            if check is None:
                continue
            checked[check.kind] += 1
            agree[check.kind] += not contradiction(check, question.options, question.right[0])
            if check.kind == "elements":
                refuted += sum(bool(contradiction(check, question.options, i)) for i in range(4))
    assert checked == {"lattice_volume": 158, "molar_mass": 301, "donors": 55, "elements": 400}
    assert agree == {"lattice_volume": 158, "molar_mass": 297, "donors": 55, "elements": 400}
    assert refuted == 465


def test_known_bad_and_repeated_questions() -> None:
    flags = Counter()
    train: dict[tuple[str, str], set[str]] = {}
    test: set[tuple[str, str]] = set()
    for name in FILES:
        _, subject, split = name.split("_")
        if name == "sciknoweval_physics_test":
            continue
        for question in load(path(f"{name}.jsonl"), subject, split).questions:
            flags.update(flag.partition(": ")[2] for flag in question.flags)
            key = question.stem, question.options[question.right[0]]
            if split == "train":
                train.setdefault(key, set()).add(question.id)
            elif subject != "biology":  # there the question is in the options
                test.add(key)
    assert flags == {
        "options repeat the text that the key means": 3,
        "option A holds the rest of the question, and the right option is lost": 14,
        "another option than the key's is closest to the molar mass that follows from the question": 4,
        "the same question is in the test split": 18,
    }
    repeated = set().union(*(ids for key, ids in train.items() if key in test))
    assert {id for id in repeated if id.startswith("material")} == {
        id for id in ALSO_IN_TEST if id.startswith("material")
    }
    assert repeated <= ALSO_IN_TEST


@pytest.mark.parametrize("name", ["lattice_volume_calculation", "molar_weight_calculation", "stability_prediction"])
def test_raw_rows_are_read_too(name: str) -> None:
    report = rfenvs.validate(ID, "test", 40, data=path(f"raw_{name}_sample40.jsonl"))
    assert report.tasks == 40
    assert report.ok, str(report)
