"""A method of your own, from its equations: DASD, disagreement-aware self-distillation (arXiv 2605.22263).

    d_t     = log q(y_t | c, y_<t) - log p(y_t | x, y_<t)               the self-teacher's disagreement
    omega_t = tanh((tau_rho - H_t) / sigma_H) sigmoid(|d_t| - 1)        towards it where p is sure, away at forks
    A_t     = A_i + beta omega_t d_t
    L       = clipped surrogate of A_t, mean over tokens

H_t is the policy's entropy, sigma_H its deviation, tau_rho the entropy that a share rho of tokens exceeds. Our reading:
statistics over the tokens of the batch, d_t capped at 5 nats, tokens that the teacher did not read keep A_i.

    rfenvs train examples/my_method.py:DASD --recipe.beta 0.2
"""

import torch
from pydantic import Field

from agents.batch import Batch
from agents.losses.reduction import token_mean
from agents.losses.terms import PolicyGradient, Term
from agents.recipes.base import TaughtRecipe
from agents.teachers.contexts import Context

CAP = 5.0


class DASD(TaughtRecipe):
    """GRPO, with the self-teacher's disagreement as a signed part of each token's advantage."""

    reads_teacher = True
    reads_student = True

    context: Context = Context(sources=["sibling", "feedback"])
    rho: float = Field(0.2, gt=0, lt=1, description="share of tokens that are forks")
    beta: float = Field(0.1, ge=0, description="weight of the disagreement")
    clip_low: float = Field(0.2, ge=0, description="lower clip of the ratio")
    clip_high: float = Field(0.28, ge=0, description="upper clip of the ratio")

    def terms(self, batch: Batch) -> list[Term]:
        """The surrogate of A_t on every token."""
        every = torch.ones(len(batch.targets))
        advantages = batch.per_token(batch.advantages)
        if batch.reading is not None and batch.student is not None:
            d, entropy = batch.log_ratio().clamp(-CAP, CAP), batch.student.entropy  # d is 0 where nobody read
            surprise = (entropy.quantile(1 - self.rho) - entropy) / (entropy.std(correction=0) + 1e-6)
            omega = surprise.tanh() * (d.abs() - 1).sigmoid()
            batch.log["repelled"] = float((omega[d != 0] < 0).float().mean()) if bool((d != 0).any()) else 0.0
            advantages = advantages + self.beta * omega * d
        return [PolicyGradient(token_mean(every), advantages, self.clip_low, self.clip_high, is_clip=self.is_clip)]
