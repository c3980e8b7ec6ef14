"""SAGE-OPD: selective, confidence-guided on-policy distillation (arXiv 2606.19659).

Teaching every token of a long episode punishes good alternatives, and teaches from states where the teacher is lost.
So each turn is looked at after the environment answered it, and corrected only where that is needed:

    1  roll out the student                                         turns y_k, answers o_k+1
    2  d_k = teacher as judge(h_k, y_k, o_k+1)                      skip, weak or strong; unreadable: strong
    3  m_k = 0, alpha, 1                                            by d_k
    4  c_k = mean over y_k of max_v q(v | s_k, y_<t)                how sure the teacher is; no gradient
    5  w_t = m_k c_k,   Z = N / sum_t w_t                           eq. 12: the mean weight of a token is 1, as in OPD
    6  L   = 1/N sum_t Z w_t l_t                                    l of `agents.recipes.opd`

Steps 2 to 5 are `agents.credit.intervention`, which every taught recipe takes as its ``intervention``; this recipe is
OPD with it switched on. From the paper (abstract, a digest, and a clean-room implementation that cites its equations;
it was not read in full): the three labels, failing closed, m, c, w, Z. Ours: alpha
0.5 (the clean-room value), the judge's wording, its triggers and its other kinds, the cap of Z, the divergence, and a
self-teacher as the default where the paper has a stronger model.
"""

from __future__ import annotations

from typing import ClassVar

from agents.credit.intervention import Intervention
from agents.recipes.opd import OPD


class SAGEOPD(OPD):
    """OPD on the turns that need it."""

    name: ClassVar[str] = "sage_opd"

    intervention: Intervention = Intervention()
