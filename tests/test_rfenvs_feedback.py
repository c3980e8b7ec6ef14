import json
from importlib.resources import files

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rfenvs
from rfenvs import FEEDBACK_SCHEMA, feedback_text, item
from rfenvs.feedback import clip, stamp


def info(*items: dict) -> dict:
    return {"feedback": stamp(items, 0)}


def test_schema_file_is_the_constant() -> None:
    stored = json.loads(files("rfenvs").joinpath("feedback.schema.json").read_text(encoding="utf-8"))
    assert stored == FEEDBACK_SCHEMA
    jsonschema.Draft202012Validator.check_schema(FEEDBACK_SCHEMA)


def test_a_stamped_item_has_every_field_and_fits_the_schema() -> None:
    [entry] = stamp([item("tool_error", "No.", span=(2, 5), data={"code": "x"})], 2)
    assert entry == {
        "id": "t2.f0",
        "kind": "tool_error",
        "severity": "error",
        "source": "grader",
        "text": "No.",
        "clipped": False,
        "full_length": 3,
        "turn": 2,
        "scope": "span",
        "span": [2, 5],
        "visibility": "policy",
        "reveals_reference": False,
        "leak_level": 0,
        "score": None,
        "data": {"code": "x"},
        "token_ids": None,
        "tokenizer": None,
    }
    jsonschema.validate(entry, FEEDBACK_SCHEMA)


def test_order_is_severity_then_as_given() -> None:
    items = [item("hint", "i", severity="info"), item("hint", "e1"), item("hint", "f", severity="fatal"),
             item("hint", "e2"), item("hint", "w", severity="warning")]  # fmt: skip
    assert [(e["id"], e["text"]) for e in stamp(items, 0)] == [
        ("t0.f0", "f"), ("t0.f1", "e1"), ("t0.f2", "e2"), ("t0.f3", "w"), ("t0.f4", "i"),
    ]  # fmt: skip


def test_stamping_copies_and_keeps_an_episode_turn() -> None:
    entry = item("hint", "x", turn=-1)
    [stamped] = stamp([entry], 4)
    assert (stamped["turn"], stamped["id"], entry["id"]) == (-1, "t4.f0", "")


def test_the_policy_can_never_be_shown_the_reference() -> None:
    with pytest.raises(ValueError, match="policy"):
        item("reference", "42", reveals_reference=True)


def test_text_by_reader() -> None:
    said = info(
        item("wrong_answer", "P"),
        item("wrong_answer", "T", visibility="teacher", reveals_reference=True),
        item("wrong_answer", "L", visibility="log"),
    )
    assert feedback_text(said, "policy") == "P"
    assert feedback_text(said) == "P\nT"
    assert feedback_text(said, "log") == "P\nT\nL"
    assert feedback_text(said, reference=False) == "P"
    with pytest.raises(ValueError, match="policy, teacher, log"):
        feedback_text(said, "students")  # type: ignore[arg-type]


def test_nothing_to_say_is_the_empty_string() -> None:
    assert feedback_text(info()) == ""
    assert feedback_text(info(item("success", "Well done.", severity="info"))) == ""
    assert feedback_text(info(item("hint", "secret", visibility="log"))) == ""
    assert feedback_text(info(item("hint", "note", severity="info"), item("hint", "bad"))) == "bad\nnote"


def test_budget_drops_whole_items_from_the_end_then_cuts() -> None:
    said = info(item("hint", "first item"), item("hint", "second item"))
    assert feedback_text(said, budget=22) == "first item\nsecond item"
    assert feedback_text(said, budget=21) == "first item"
    assert feedback_text(said, budget=5) == "first"
    assert feedback_text(said, budget=0) == ""


@given(st.text(max_size=300), st.integers(0, 200))
def test_clipping_never_exceeds_the_limit_and_keeps_short_texts(text: str, limit: int) -> None:
    clipped = clip(text, limit)
    assert len(clipped) <= limit
    assert (clipped == text) == (len(text) <= limit)


def test_a_clipped_item_says_how_long_it_was() -> None:
    entry = item("runtime_error", "head " + "x" * 500 + " tail", limit=60)
    assert entry["clipped"]
    assert entry["full_length"] == 510
    assert len(entry["text"]) <= 60
    assert entry["text"].startswith("head ")
    assert entry["text"].endswith(" tail")


def test_the_marker_counts_what_was_cut() -> None:
    text = clip("z" * 1000, 100)
    assert f"[... {1000 - text.count('z')} characters cut ...]" in text


def test_public_names() -> None:
    assert {
        "Action",
        "FEEDBACK_SCHEMA",
        "feedback_text",
        "get_task",
        "num_tasks",
        "splits",
        "validate",
    } <= set(rfenvs.__all__)
