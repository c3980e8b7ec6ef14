"""A small language model made on the spot: a tokenizer learnt from given texts, Llama weights, a warm start.

For runs that must fit two CPU cores and cannot fetch a model. It knows nothing of language: `imitate` is its
pretraining, on dialogues of an expert who sometimes strays (`expert_dialogues`). Say so beside every number.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import gymnasium
import torch
from rich.progress import track

from agents.errors import SetupError
from agents.teachers.hints import Hint
from agents.teachers.wording import TURN, reworded
from agents.trajectory import Message

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
        width: Hidden size; the feed-forward layers are twice as wide.
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
                intermediate_size=2 * width,
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


def expert_dialogues(
    env: gymnasium.Env[str, str], tasks: Iterable[int], *, noise: float = 0.25, hinted: float = 0.3, seed: int = 0
) -> Iterator[list[Message]]:
    """Episodes of the environment's own expert, as chat messages, one an episode.

    Args:
        env: Tells ``expert_plan`` and ``admissible_commands`` in ``info``: ``rfenvs/ALFWorld-v0`` with ``expert=True``.
        tasks: Task indices.
        noise: Chance that a turn is a random admissible command instead: so that the states after a mistake, and going
            on from them, occur too. A policy that imitates this strays as often.
        hinted: Chance that a message ends with the expert's plan, in the words in which a teacher's context gives
            it (``wording="inline"``); the expert then follows it. So the model learns to read hints.
        seed: Of both.

    Raises:
        SetupError: The environment tells no plan.
    """
    rng = random.Random(seed)
    for task in tasks:
        observation, info = env.reset(options={"task_index": task})
        if info.get("expert_plan") is None:
            raise SetupError("the warm start imitates info['expert_plan'], which is missing: set expert=True")
        messages: list[Message] = []
        over = False
        while not over:
            question = [{"role": "user", "content": str(observation)}]
            plan = info["expert_plan"]
            if plan and rng.random() < hinted:
                question = reworded("inline", question, Hint(answer=plan[0], then=tuple(plan[1:])), TURN)
                action = plan[0]
            elif not plan or rng.random() < noise:
                action = rng.choice(info["admissible_commands"])
            else:
                action = plan[0]
            messages += [*question, {"role": "assistant", "content": action}]
            observation, _, terminated, truncated, info = env.step(action)
            over = terminated or truncated
        yield messages


def imitate(
    directory: Path,
    dialogues: Sequence[Sequence[Message]],
    *,
    steps: int,
    rows: int = 6,
    lr: float = 5e-3,
    seed: int = 0,
) -> float:
    """Next-token likelihood of whole dialogues, ``rows`` a step; the model in ``directory`` is replaced by the result.

    All tokens count, the environment's too: from those the model learns how the game answers. AdamW, 50 steps of
    warm-up, then a cosine down to a tenth of ``lr``. Returns the loss of the last step, nats a token.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, get_cosine_with_min_lr_schedule_with_warmup

    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    texts = [
        tokenizer.encode(tokenizer.apply_chat_template(list(d), tokenize=False), add_special_tokens=False)
        for d in dialogues
    ]
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    schedule = get_cosine_with_min_lr_schedule_with_warmup(optimizer, 50, steps, min_lr_rate=0.1)
    rng, order, loss = random.Random(seed), list[int](), torch.zeros(())
    model.train()
    for _ in track(range(steps), "imitating the expert", transient=True):
        if len(order) < rows:
            order = list(range(len(texts)))
            rng.shuffle(order)
        chosen = [texts[order.pop()] for _ in range(rows)]
        labels = torch.full((rows, max(map(len, chosen))), -100)
        for row, ids in zip(labels, chosen, strict=True):
            row[: len(ids)] = torch.tensor(ids)
        loss = model(input_ids=labels.clamp(min=0), labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
    model.eval().save_pretrained(directory)
    return float(loss.detach())
