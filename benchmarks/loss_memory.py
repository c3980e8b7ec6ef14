"""Peak memory and time of the distillation loss, from hidden states to gradients, against TRL and Liger.

    python benchmarks/loss_memory.py [--quick] [--json PATH]

Jensen-Shannon divergence between a student and a teacher over the whole vocabulary, mean over tokens, forward
and backward to the student's hidden states and to its head, float32. Each figure is that of a fresh process.
A case that would not fit is not run: its peak is extrapolated from two smaller ones and marked so.

Needs: pip install --no-deps trl==1.16.0 liger-kernel==0.8.5 && pip install datasets accelerate
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
import torch.nn.functional as F
from torch import Tensor

from agents.losses.divergence import divergence
from agents.losses.fused import Head, Teacher, auto_chunk, fused_loss
from agents.losses.reduction import token_mean
from agents.losses.terms import Distill
from benchmarks.common import (
    GIB,
    HARDWARE,
    ROOT,
    available_bytes,
    emit,
    in_fresh_process,
    markdown_table,
    measure,
)

HIDDEN_SIZE = {49_152: 576, 152_064: 896}
"""Vocabulary -> width: SmolLM2-135M, Qwen2.5-0.5B."""
CASES = ((2048, 49_152), (8192, 49_152), (2048, 152_064), (8192, 152_064))
SHORTER = {49_152: (1024, 2048), 152_064: (256, 512)}
"""Vocabulary -> the tokens of the two runs to extrapolate from."""
PEER_LIMIT = {"liger": 2048, "liger_small": 2048}
"""Tokens beyond which a chunked peer is not run: its peak depends on the chunk, its time is long."""
QUICK_CASES = ((256, 49_152), (512, 49_152))
VARIANTS = {
    "ours": "rfenvs `fused_loss`",
    "trl": "TRL 1.16.0 full logits",
    "plain": "our formula on full logits",
    "liger": "Liger 0.8.5 fused JSD, chunk 1024",
    "liger_small": "Liger 0.8.5 fused JSD, our chunk",
}
STATE = ROOT / "build" / "loss_memory.json"
"""What has been measured so far, for --resume."""
CAP = 14 * GIB
HEADROOM = 4 * GIB


def estimate(variant: str, tokens: int, vocabulary: int) -> int:
    """Bytes to expect before running, to decide whether it fits."""
    head = vocabulary * HIDDEN_SIZE[vocabulary] * 4
    if variant == "ours":
        return 2 * head + 8 * 32_000_000
    if variant.startswith("liger"):
        chunk = 1024 if variant == "liger" else auto_chunk(vocabulary)
        chunks = max(1, tokens // chunk)
        return 3 * head + 18 * -(-tokens // chunks) * vocabulary * 4
    return 2 * head + 13 * tokens * vocabulary * 4


def loss(variant: str, hidden: Tensor, weight: Tensor, other: Tensor, other_weight: Tensor, y: Tensor) -> Tensor:
    """One variant's mean divergence, ready for backward."""
    if variant == "ours":
        teacher = Teacher([(1.0, other, Head(other_weight))])
        coefficients = token_mean(torch.ones(len(y)))
        return fused_loss(hidden, Head(weight), y, [Distill(coefficients)], teacher=teacher)[0]
    if variant.startswith("liger"):
        from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

        chunk = 1024 if variant == "liger" else auto_chunk(len(weight))
        peer = LigerFusedLinearJSDLoss(
            weight_hard_loss=0.0, weight_soft_loss=1.0, beta=0.5, compiled=False, chunk_size=chunk
        )
        value: Tensor = peer(hidden, weight, other, other_weight, y)
        return value
    student = F.linear(hidden, weight)
    with torch.no_grad():
        teacher_logits = F.linear(other, other_weight)
    if variant == "trl":
        from trl.experimental.sdpo.loss_utils import compute_full_logit_self_distillation_loss

        per_token: Tensor = compute_full_logit_self_distillation_loss(student, teacher_logits, distillation_alpha=0.5)
    else:
        per_token = divergence(student.log_softmax(-1), teacher_logits.log_softmax(-1), 0.5)
    return per_token.mean()


def child(variant: str, tokens: int, vocabulary: int) -> None:
    """Measure one variant in this process."""
    Path("/proc/self/oom_score_adj").write_text("1000")  # should memory run out, end this process first
    torch.set_num_threads(1)
    torch.manual_seed(0)
    d = HIDDEN_SIZE[vocabulary]

    def inputs(n: int, v: int) -> tuple[Tensor, ...]:
        weight = torch.randn(v, d).mul_(0.05)
        other_weight = weight.clone()  # as an averaged or frozen teacher has; not part of what is measured
        return (
            torch.randn(n, d).requires_grad_(),
            weight.requires_grad_(),
            torch.randn(n, d),
            other_weight,
            torch.randint(v, (n,)),
        )

    def step(arguments: tuple[Tensor, ...]) -> float:
        value = loss(variant, *arguments)
        value.backward()
        return value.item()

    step(inputs(8, 64))  # imports and thread pools are not the loss's cost
    arguments = inputs(tokens, vocabulary)
    value, cost = measure(lambda: step(arguments))
    hidden, weight = arguments[0].grad, arguments[1].grad
    assert hidden is not None
    assert weight is not None
    emit(cost, loss=value, hidden_grad_norm=hidden.norm().item(), head_grad_norm=weight.norm().item())


def run(variant: str, tokens: int, vocabulary: int) -> dict[str, Any] | None:
    """One measured row, or None where it would not fit."""
    done = json.loads(STATE.read_text()) if STATE.exists() else []
    for row in done:
        if (row["variant"], *_case(row)) == (variant, tokens, vocabulary):
            return dict(row)
    need = estimate(variant, tokens, vocabulary)
    inputs = 2 * vocabulary * HIDDEN_SIZE[vocabulary] * 4
    if need + inputs > min(CAP, available_bytes() - HEADROOM):
        return None
    print(f"{variant} at {tokens} x {vocabulary} ...", flush=True)
    result = in_fresh_process("loss_memory.py", ["--child", variant, tokens, vocabulary])
    row = {"variant": variant, "tokens": tokens, "vocabulary": vocabulary, "kind": "measured", **result}
    STATE.parent.mkdir(exist_ok=True)
    STATE.write_text(json.dumps([*done, row]))
    return row


def extrapolate(variant: str, tokens: int, vocabulary: int, measured: list[dict[str, Any]]) -> dict[str, Any]:
    """A row from the straight line through the two longest measured ones of the same vocabulary."""
    rows = [r for r in measured if r["variant"] == variant and r["vocabulary"] == vocabulary]
    rows = [r for r in rows if r["kind"] == "measured"]
    if len(rows) < 2:
        raise RuntimeError(f"{variant} at {vocabulary}: free memory for two runs of {SHORTER[vocabulary]} tokens")
    first, second = sorted(rows, key=lambda r: int(r["tokens"]))[-2:]
    steps = (tokens - second["tokens"]) / (second["tokens"] - first["tokens"])

    def line(field: str) -> float:
        return float(second[field] + steps * (second[field] - first[field]))

    return {
        "variant": variant,
        "tokens": tokens,
        "vocabulary": vocabulary,
        "kind": f"extrapolated from {first['tokens']} and {second['tokens']} tokens",
        "extra_peak_bytes": int(line("extra_peak_bytes")),
        "cpu_seconds": line("cpu_seconds"),
        "wall_seconds": line("wall_seconds"),
    }


def check_agreement(rows: list[dict[str, Any]]) -> None:
    """Every variant of a case computed the same loss and gradients."""
    for field in ("loss", "hidden_grad_norm", "head_grad_norm"):
        values = [row[field] for row in rows if field in row]
        if values and max(values) - min(values) > 1e-3 * max(values):
            raise RuntimeError(f"{field} differs between variants: {values}")


def render(rows: list[dict[str, Any]]) -> str:
    """The table of all cases."""
    table = []
    for row in rows:
        head = row["vocabulary"] * HIDDEN_SIZE[row["vocabulary"]] * 4
        (ours,) = (r for r in rows if r["variant"] == "ours" and _case(r) == _case(row))
        table.append(
            [
                f"{VARIANTS[row['variant']]}" + ("" if row["kind"] == "measured" else f" ({row['kind']})"),
                f"{row['tokens']:,} x {row['vocabulary']:,}",
                f"{row['extra_peak_bytes'] / 1e6:,.0f} MB",
                f"{(row['extra_peak_bytes'] - head) / 1e6:,.0f} MB",
                f"{ours['extra_peak_bytes'] / row['extra_peak_bytes']:.3f}",
                f"{row['cpu_seconds']:,.1f} s",
                f"{row['wall_seconds']:,.1f} s",
            ]
        )
    header = ("loss", "tokens x vocabulary", "extra peak", "less dW", "ours / this", "CPU", "wall")
    return markdown_table(header, table)


def _case(row: dict[str, Any]) -> tuple[int, int]:
    return row["tokens"], row["vocabulary"]


PREAMBLE = """# Memory of the distillation loss

Jensen-Shannon divergence over the whole vocabulary, hidden states to gradients (forward and backward),
float32, one thread of a {hardware}, each figure from a fresh process: `python benchmarks/loss_memory.py`.

- *Extra peak*: the highest resident memory during the call, less that just before it.
- *Less dW*: without the dense gradient of the head, which every variant must hold ({sizes}) and
  which a frozen head or an adapter does away with.
- *Ours / this*: our extra peak over this variant's, dW included on both sides.
- Rows marked as extrapolated did not fit in memory: a straight line through the two runs named. All measured
  variants of a case gave the same loss and gradient norms to 0.1 %.
- Our own figure varied by up to 190 MB between three runs, with the allocator; Liger's peak depends on its chunk, so
  its longer cases are left out.

"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two small cases, written only with --json")
    parser.add_argument("--resume", action="store_true", help="keep what an interrupted run measured")
    parser.add_argument("--json", type=Path, help="where to write the results")
    parser.add_argument("--child", nargs=3, metavar=("VARIANT", "TOKENS", "VOCABULARY"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        variant, tokens, vocabulary = options.child
        child(variant, int(tokens), int(vocabulary))
        return

    if not options.resume:
        STATE.unlink(missing_ok=True)
    peers = {"trl": "trl", "liger": "liger_kernel", "liger_small": "liger_kernel"}
    variants = [v for v in VARIANTS if v not in peers or importlib.util.find_spec(peers[v])]
    for variant in set(VARIANTS) - set(variants):
        print(f"skipped {variant}: {peers[variant]} is not installed", flush=True)
    rows: list[dict[str, Any]] = []
    extra: list[dict[str, Any]] = []
    for tokens, vocabulary in QUICK_CASES if options.quick else CASES:
        case = []
        for variant in variants:
            if tokens > PEER_LIMIT.get(variant, tokens):
                continue
            row = run(variant, tokens, vocabulary)
            if row is None:
                print(f"{variant} at {tokens} x {vocabulary} would not fit", flush=True)
                if variant in PEER_LIMIT:
                    continue
                for shorter in SHORTER[vocabulary]:
                    if not any(r["variant"] == variant and _case(r) == (shorter, vocabulary) for r in rows + extra):
                        extra += filter(None, [run(variant, shorter, vocabulary)])
                row = extrapolate(variant, tokens, vocabulary, rows + extra)
            peak = row["extra_peak_bytes"] / 1e6
            print(f"{variant:12} {tokens} x {vocabulary}: {peak:,.0f} MB, {row['kind']}", flush=True)
            case.append(row)
        check_agreement(case)
        rows += case
    table = render(rows)
    print(table)
    target = options.json or (None if options.quick else ROOT / "docs" / "benchmarks" / "loss_memory.json")
    if target is None:
        return
    sizes = ", ".join(
        f"{v * HIDDEN_SIZE[v] * 4 / 1e6:,.0f} MB at {v:,}" for v in sorted({r["vocabulary"] for r in rows})
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    found = {"hardware": HARDWARE, "threads": 1, "dtype": "float32", "torch": torch.__version__}
    target.write_text(json.dumps({**found, "rows": rows, "shorter_runs": extra}, indent=2) + "\n")
    target.with_suffix(".md").write_text(PREAMBLE.format(hardware=HARDWARE, sizes=sizes) + table)


if __name__ == "__main__":
    main()
