"""CPU seconds of sampling an episode's turns, with whole histories forwarded again and with their cache reused.

    python -m benchmarks.turn_reuse [--shape tiny|smollm2] [--episodes 8] [--turns 10] [--reply 60] [--tokens 20]
                                   [--memory 1048576]

Random weights of the given shape, one thread; histories grow by an action and a reply a turn, as in a rollout.
"""

from __future__ import annotations

import argparse
import json
import random
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from agents.engines.base import Sampling
from agents.engines.hf import HFEngine
from agents.engines.reuse import Memory

SHAPES = {
    "tiny": dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
                 num_key_value_heads=2, vocab_size=1000),
    "smollm2": dict(hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
                    num_key_value_heads=3, vocab_size=49152),
}  # fmt: skip


def tokenizer() -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, models

    fast = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"<end>": 0, "a": 1}, "a")))
    fast.add_special_tokens({"eos_token": "<end>"})
    fast.chat_template = "{% for m in messages %}{{ m['content'] }}<end>{% endfor %}"
    return fast


def seconds(engine: HFEngine, known: argparse.Namespace, memory: Memory | None) -> list[float]:
    """CPU seconds of each turn."""
    draw = random.Random(0)

    def text(n: int) -> list[int]:
        return [draw.randrange(10, 900) for _ in range(n)]

    task = text(known.task)
    prompts, times = [[*task, *text(20)] for _ in range(known.episodes)], []
    for turn in range(known.turns):
        start = time.process_time()
        done = engine.generate(prompts, Sampling(max_tokens=known.tokens), turn, memory)
        times.append(time.process_time() - start)
        prompts = [[*p, *c.ids, *text(known.reply)] for p, c in zip(prompts, done, strict=True)]
    return times


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    for name, default in (("episodes", 8), ("turns", 10), ("reply", 60), ("tokens", 20), ("task", 200)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--memory", type=int, default=1 << 20, help="tokens that are kept")
    known = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = LlamaConfig(**SHAPES[known.shape], max_position_embeddings=8192, tie_word_embeddings=True)
    engine = HFEngine(LlamaForCausalLM(config), tokenizer())
    again = seconds(engine, known, None)
    reused = seconds(engine, known, Memory(known.memory))
    print(json.dumps({
        **vars(known), "again_s": round(sum(again), 2), "reused_s": round(sum(reused), 2),
        "ratio": round(sum(again) / sum(reused), 2), "last_turn_ratio": round(again[-1] / reused[-1], 2),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
