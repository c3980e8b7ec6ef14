"""A small language model made on the spot: a tokenizer learnt from given texts, and untrained Llama weights.

For runs that must fit two CPU cores and cannot fetch a model. It knows nothing: warm it up by imitation first
(`agents.recipes.dagger` with ``beta=1``), and say so beside every number.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build_small(
    directory: Path,
    texts: Iterable[str],
    *,
    vocabulary: int = 1024,
    width: int = 192,
    layers: int = 4,
    heads: int = 4,
    context: int = 2048,
    seed: int = 0,
) -> Path:
    """Write a Hugging Face directory: a byte-level BPE of at most ``vocabulary`` entries, and a Llama beside it.

    Args:
        directory: Where it goes; one that holds a model already is left as it is.
        texts: What the tokenizer learns its merges from; any text can be encoded, whatever they are.
        vocabulary: Entries, 256 bytes and three control tokens among them.
        width: Hidden size; the feed-forward layers are 4 times as wide.
        layers: Decoder layers.
        heads: Attention heads; ``width`` must be a multiple.
        context: Longest sequence, in tokens.
        seed: Of the initial weights.

    Returns:
        ``directory``.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    if (directory / "config.json").is_file():
        return directory
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<|pad|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|pad|>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    tokenizer.chat_template = CHATML

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=width,
                intermediate_size=4 * width,
                num_hidden_layers=layers,
                num_attention_heads=heads,
                num_key_value_heads=heads,
                max_position_embeddings=context,
                tie_word_embeddings=True,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
                bos_token_id=None,
            )
        )
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(directory)
    model.save_pretrained(directory)
    return directory
