"""Tokens and time of a teacher that scores every turn of an episode, against scoring each turn from its start.

    python benchmarks/teacher_scoring.py [--quick] [--json PATH]

An episode has a prompt of 300 tokens, observations of 60 and actions of 20. At each turn the teacher reads the true
history, 40 tokens of privileged text and the observation, and scores the action. Trainers that know nothing of
episodes forward each of these sequences from its start; ours forwards the history once and a branch a turn. The third
figure is the single-pass form, where one hint heads the whole episode.

The model is Llama-shaped with random weights, in float32. Each figure is that of a fresh process.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from agents.engines.hf import HFEngine, Scored
from agents.losses.head import Head
from benchmarks.common import HARDWARE, ROOT, emit, in_fresh_process, markdown_table, measure

PROMPT, OBSERVATION, ACTION, PRIVILEGED = 300, 60, 20, 40
"""Tokens."""
TURNS = (5, 10, 20, 30)
QUICK_TURNS = (3, 6)
SIZE = {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 6, "num_attention_heads": 6}
VOCABULARY = 8192
BUDGET = 2048
"""Tokens of one forward pass, the same for all."""
VARIANTS = {
    "per_turn": "each turn from its start",
    "ours": "rfenvs, a branch a turn",
    "single": "rfenvs, one hint at the head",
}


def engine(layout: str) -> HFEngine:
    """A random model, and a tokenizer that is never asked for more than its template."""
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, max_position_embeddings=8192, tie_word_embeddings=True, initializer_range=0.1, **SIZE
    )
    words = Tokenizer(models.WordLevel({"<|end|>": 0, "<|unk|>": 1}, unk_token="<|unk|>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<|end|>", unk_token="<|unk|>")
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}<|end|>{% endfor %}"
    return HFEngine(LlamaForCausalLM(config), tokenizer, budget=BUDGET, layout=layout)


def episode(turns: int, single: bool) -> list[Scored]:
    """(teacher's prompt, action) of each turn."""
    draw = random.Random(0)

    def ids(n: int) -> list[int]:
        return [draw.randrange(VOCABULARY) for _ in range(n)]

    hint, history = ids(PRIVILEGED), ids(PROMPT)
    items: list[Scored] = []
    for turn in range(turns):
        observation, privileged, action = ids(OBSERVATION) if turn else [], ids(PRIVILEGED), ids(ACTION)
        before = hint + history if single else history + privileged
        items.append((before + observation, action))
        history = history + observation + action
    return items


def child(variant: str, turns: int) -> None:
    """Measure one variant in this process."""
    torch.set_num_threads(1)
    scorer = engine("padded" if variant == "per_turn" else "tree")
    items = episode(turns, variant == "single")
    scorer.read(items[:1])  # imports and thread pools are not the scoring's cost
    tokens: list[int] = []

    def count(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        mask = kwargs["attention_mask"]
        padded = mask is not None and mask.dim() == 2
        tokens.append(int(mask.sum()) if padded else kwargs["input_ids"].numel())

    scorer.backbone.register_forward_pre_hook(count, with_kwargs=True)
    hidden, cost = measure(lambda: scorer.read(items))
    emit(cost, tokens=sum(tokens), logprobs=logprobs(scorer.head(), hidden, items))


@torch.no_grad()
def logprobs(head: Head, hidden: torch.Tensor, items: list[Scored]) -> list[float]:
    """Of the actions' tokens."""
    targets = torch.tensor([i for _, action in items for i in action])
    values: list[float] = head.logits(hidden).log_softmax(-1).gather(-1, targets[:, None])[:, 0].tolist()
    return values


def run(turns: int) -> dict[str, Any]:
    """All variants of one length: the figures of each, and how far ours are from each turn alone."""
    results = {v: in_fresh_process("teacher_scoring.py", ["--child", v, turns]) for v in VARIANTS}
    scores = {v: result.pop("logprobs") for v, result in results.items()}
    pairs = zip(scores["ours"], scores["per_turn"], strict=True)
    return {"turns": turns, "max_logprob_difference": max(abs(a - b) for a, b in pairs), **results}


def render(rows: list[dict[str, Any]]) -> str:
    """The table of all lengths."""
    table = []
    for row in rows:
        base = row["per_turn"]
        for variant, name in VARIANTS.items():
            figures = row[variant]
            table.append(
                [
                    f"{row['turns']} turns, {name}",
                    f"{figures['tokens']:,}",
                    f"{figures['tokens'] / base['tokens']:.3f}",
                    f"{figures['cpu_seconds']:.2f} s",
                    f"{figures['cpu_seconds'] / base['cpu_seconds']:.3f}",
                    f"{figures['extra_peak_bytes'] / 1e6:,.0f} MB",
                    f"{row['max_logprob_difference']:.1e}" if variant == "ours" else "",
                ]
            )
    header = ("teacher", "tokens forwarded", "ratio", "CPU", "ratio", "extra peak", "largest logprob difference")
    return markdown_table(header, table)


PREAMBLE = """# Scoring every turn of an episode

A teacher scores each action of one episode, with privileged text of its own at each turn: `python
benchmarks/teacher_scoring.py` on one thread of a {hardware}. The prompt has {prompt} tokens, observations
{observation}, actions {action}, privileged texts {privileged}. The model is Llama-shaped with random weights (width
{width}, {layers} layers), float32, at most {budget} tokens a forward pass; each figure is that of a fresh process.

- *Each turn from its start*: what trainers do that take every turn for a sequence of its own; rows of like lengths
  in one batch, padding not counted.
- *A branch a turn*: the history is forwarded once, each turn's privileged text and action branch off it. Same
  sequences, same log-probabilities; the last column is the largest difference over all scored tokens.
- *One hint at the head*: another teacher, the same text before the whole episode. All turns are then one sequence.
- *Ratio*: to each turn from its start.

"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two short episodes, written only with --json")
    parser.add_argument("--json", type=Path, help="where to write the results")
    parser.add_argument("--child", nargs=2, metavar=("VARIANT", "TURNS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        variant, turns = options.child
        child(variant, int(turns))
        return
    rows = []
    for turns in QUICK_TURNS if options.quick else TURNS:
        print(f"{turns} turns ...", flush=True)
        rows.append(run(turns))
        if rows[-1]["max_logprob_difference"] > 1e-3:
            raise RuntimeError(f"at {turns} turns log-probabilities differ by {rows[-1]['max_logprob_difference']}")
    table = render(rows)
    print(table)
    target = options.json or (None if options.quick else ROOT / "docs" / "benchmarks" / "teacher_scoring.json")
    if target is None:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    found = {"hardware": HARDWARE, "threads": 1, "dtype": "float32", "torch": torch.__version__}
    target.write_text(json.dumps({**found, "rows": rows}, indent=2) + "\n")
    about = PREAMBLE.format(
        hardware=HARDWARE,
        prompt=PROMPT,
        observation=OBSERVATION,
        action=ACTION,
        privileged=PRIVILEGED,
        width=SIZE["hidden_size"],
        layers=SIZE["num_hidden_layers"],
        budget=f"{BUDGET:,}",
    )
    target.with_suffix(".md").write_text(about + table)


if __name__ == "__main__":
    main()
