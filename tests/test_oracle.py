"""Every recipe's loss and gradient equal those of its equation, written as loops (`tests/oracle.py`)."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch
from oracle import Reference, world

torch.set_num_threads(1)

REFERENCES: dict[str, Reference] = {}
for file in sorted(Path(__file__).parent.glob("references_*.py")):
    REFERENCES |= importlib.import_module(file.stem).REFERENCES

CASES = [(name, seed) for name in REFERENCES for seed in range(4)]


def same(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("name", "seed"), CASES)
def test_loss_and_gradient_are_those_of_the_equation(name, seed):
    """Ragged turns, random masks; odd seeds are the second of several optimiser steps on the same rollouts."""
    w = world(name, REFERENCES[name], seed)
    loss, gradients = w.fused()
    expected, theirs = w.referred(REFERENCES[name].loss)
    assert any(bool(g.any()) for g in theirs), "the reference must have a signal"
    assert float(loss) == pytest.approx(float(expected), abs=1e-6)
    same(gradients, theirs)


@pytest.mark.parametrize("name", REFERENCES)
def test_no_number_depends_on_micro_batches(name):
    w = world(name, REFERENCES[name], 5)
    loss, gradients = w.fused()
    order = torch.randperm(len(w.batch.targets), generator=torch.Generator().manual_seed(0))
    for cuts in (1, 3, len(order)):
        parts, split = w.fused([part for part in order.chunk(cuts) if len(part)])
        assert float(parts) == pytest.approx(float(loss), abs=1e-6)
        same(split, gradients)
