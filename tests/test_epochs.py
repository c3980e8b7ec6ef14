"""`rfenvs.epochs`: permutations of any size, in constant memory, the same everywhere."""

import itertools
import tracemalloc
from collections import Counter

import pytest
from every_id import offline
from hypothesis import given
from hypothesis import strategies as st

import rfenvs
from rfenvs import Epoch, epochs

TOOL = "rfenvs/ToolCall-v0"


@given(st.integers(0, 300), st.integers(-5, 2**70), st.integers(0, 1000))
def test_an_epoch_visits_every_task_once(tasks: int, seed: int, number: int) -> None:
    epoch = Epoch(tasks, seed, number)
    assert sorted(epoch) == list(range(tasks))
    assert len(epoch) == tasks
    assert [epoch[i] for i in range(tasks)] == list(epoch) == epoch[:]


def test_orders_are_the_same_on_every_machine() -> None:
    assert list(Epoch(10, seed=0)) == [9, 2, 3, 6, 0, 5, 8, 4, 7, 1]
    assert Epoch(2**31 - 1, seed=1, number=2)[:3] == [625309092, 568997534, 1743469640]


def test_epochs_and_seeds_differ() -> None:
    orders = {tuple(Epoch(50, seed, number)) for seed in range(5) for number in range(5)}
    assert len(orders) == 25


@pytest.mark.parametrize("tasks", [2, 3, 5, 16, 17])
def test_every_task_is_equally_likely_in_every_place(tasks: int) -> None:
    runs = 4000
    for position in (0, tasks - 1):
        counts = Counter(Epoch(tasks, seed)[position] for seed in range(runs))
        expected = runs / tasks
        chi_square = sum((counts[i] - expected) ** 2 / expected for i in range(tasks))
        assert chi_square < 3 * tasks + 12


def test_a_split_of_billions_costs_no_memory() -> None:
    tracemalloc.start()
    epoch = next(epochs(TOOL, "train", seed=3))
    first = list(itertools.islice(epoch, 2000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(epoch) == 2**31 - 1
    assert len(set(first)) == 2000
    assert max(first) > 2**30
    assert peak < 2**20
    assert first[1999] == epoch[1999] == epoch[1999 - len(epoch)]


def test_a_later_run_goes_on_where_an_earlier_one_stopped() -> None:
    five = [list(epoch) for epoch in itertools.islice(epochs(TOOL, "test", seed=1), 5)]
    assert [list(e) for e in itertools.islice(epochs(TOOL, "test", seed=1, start=3), 2)] == five[3:]
    assert all(sorted(order) == list(range(1000)) for order in five)


@pytest.mark.parametrize("id", rfenvs.list_ids())
def test_every_split_of_every_id(id: str) -> None:
    for split in rfenvs.splits(id):
        epoch = next(epochs(id, split, **offline(id)))
        assert len(epoch) == rfenvs.num_tasks(id, split, **offline(id))
        assert rfenvs.get_task(id, split, epoch[0], **offline(id)).id


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="split='none'"):
        epochs(TOOL, "none")
    with pytest.raises(ValueError, match="tasks=-1"):
        Epoch(-1)
    for position in (10, -11):
        with pytest.raises(IndexError, match="the epoch has 10 tasks"):
            Epoch(10)[position]
