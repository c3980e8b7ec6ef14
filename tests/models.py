"""A tiny model and tokenizer, made on the spot: real parts, random weights."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from agents.small import CHATML

CORPUS = [
    'weather(city="Oslo") call(name="Anna") timer(minutes="12") buy(item="milk")',
    "Reply with one tool call. Tools: weather(city), call(name), timer(minutes), buy(item).",
    "Is it raining in Paris today? Phone Bob please. Set a timer. system user assistant feedback expected got",
]


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE of about 400 entries with ChatML control tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|pad|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|pad|>")
    fast.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    fast.chat_template = CHATML
    return fast


def tiny_model(vocab: int, seed: int = 0, **changes: object) -> LlamaForCausalLM:
    """Two layers, grouped-query attention, tied embeddings, weights large enough to be decisive."""
    torch.manual_seed(seed)
    settings = dict(
        vocab_size=vocab, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=True, initializer_range=0.3,
        eos_token_id=2, pad_token_id=0, bos_token_id=None,
    )  # fmt: skip
    return LlamaForCausalLM(LlamaConfig(**{**settings, **changes}))


def save_tiny(directory: Path, **changes: object) -> Path:
    """A Hugging Face directory with both."""
    tokenizer = tiny_tokenizer()
    tiny_model(len(tokenizer), **changes).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory
