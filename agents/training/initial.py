"""The state that every run of a session starts from, put back in place of loading the model again."""

from __future__ import annotations

import torch

from agents.teachers.teacher import Teacher
from agents.training.learner import Learner


class Initial:
    """A copy of the trainable weights as they are now; `restore` brings them back to the bit.

    The optimiser has no moments then, the learning rate's warm-up starts over, and a teacher that is a shadow of the
    policy is a shadow of these weights. What is not trained was never changed: an external model, or what lies below
    adapters.
    """

    def __init__(self, learner: Learner, teacher: Teacher | None) -> None:
        self.learner, self.teacher = learner, teacher
        self.weights = [p.detach().clone() for p in learner.parameters]

    @torch.no_grad()
    def restore(self) -> None:
        """Weights, optimiser and teacher as they were."""
        for parameter, value in zip(self.learner.parameters, self.weights, strict=True):
            parameter.copy_(value)
        self.learner.optimizer.zero_grad(set_to_none=True)
        self.learner.optimizer.state.clear()
        self.learner.steps = 0
        if self.teacher is not None:
            trainable = [n for n, p in self.learner.engine.model.named_parameters() if p.requires_grad]
            first = dict(zip(trainable, self.weights, strict=True))
            for name, shadow in self.teacher.shadow.items():
                shadow.copy_(first[name])
