import copy
import pickle
import time

import gymnasium
import pytest
from gymnasium.spaces import Dict, Discrete, flatdim, flatten, flatten_space, unflatten
from gymnasium.wrappers import FlattenObservation

import rfenvs
from rfenvs import Text


@pytest.mark.parametrize("text", ["", "a\nb\t c", "é ✓ 中 👨‍👩‍👧‍👦", "\x00", "�", "x" * 100_000])
def test_any_unicode_text_is_inside(text: str) -> None:
    assert text in Text()


@pytest.mark.parametrize("other", ["\ud800", "ok \udfff", b"bytes", 3, None, ["a"]])
def test_lone_surrogates_and_other_types_are_outside(other: object) -> None:
    assert other not in Text()


def test_length_bounds_count_code_points() -> None:
    space = Text(3, min_length=2)
    assert [t in space for t in ("a", "ab", "🙂🙂🙂", "abcd")] == [False, True, True, False]


def test_samples_are_short_legal_and_seeded() -> None:
    space = Text(seed=3)
    samples = [space.sample() for _ in range(200)]
    assert all(s in space and len(s) <= 24 for s in samples)
    assert any(not s.isascii() for s in samples)
    assert any(s == "" for s in samples)
    space.seed(3)
    assert samples[:5] == [space.sample() for _ in range(5)]
    with pytest.raises(ValueError, match="no mask"):
        space.sample(mask=(3, None))


def test_equality_copies_pickles_and_repr_are_cheap() -> None:
    start = time.process_time()
    for _ in range(20):
        assert Text() == copy.deepcopy(Text()) == pickle.loads(pickle.dumps(Text()))
    assert time.process_time() - start < 1.0
    assert len(pickle.dumps(Text())) < 20_000
    assert Text() != Text(5)
    assert Text(5) != gymnasium.spaces.Text(5)
    assert len(repr(Text())) < 60


def test_flattening_is_refused_with_an_explanation() -> None:
    space = Text()
    for call in (
        lambda: flatdim(space),
        lambda: flatten(space, "a"),
        lambda: flatten_space(space),
        lambda: unflatten(space, "a"),
        lambda: flatten_space(Dict({"n": Discrete(2), "t": space})),
        lambda: FlattenObservation(gymnasium.make("rfenvs/ToolCall-v0")),
    ):
        with pytest.raises(ValueError, match="no flat array form"):
            call()
    assert not space.is_np_flattenable


def test_it_stays_a_gymnasium_text_space() -> None:
    assert isinstance(rfenvs.Text(), gymnasium.spaces.Text)
