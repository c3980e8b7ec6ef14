"""The transformers engine: one model in this process that samples, scores and is trained.

Sampling forwards each distinct prompt once (what all prompts share, once for all), repeats the cache for the
attempts, and drops finished rows as it goes. Scoring forwards prefix trees (`agents.engines.tree`) and returns
hidden states of the scored positions only: logits are made later, chunk by chunk, inside the loss.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.chat import Chat
from agents.engines.base import Completion, Generate, Sampling
from agents.engines.growing import give_room
from agents.engines.limits import UNLIMITED, tree_limit
from agents.engines.reuse import Memory, fingerprint, is_plain, joined, row_of
from agents.engines.tree import Rows, Sequences, Tree, common_prefix
from agents.errors import SetupError
from agents.losses.fused import Head

Scored = tuple[Sequence[int], Sequence[int]]
"""(prompt ids, action ids): the action's tokens are scored."""

CPU_RUN = 256
"""Least nodes of a run on a CPU, where attention to what a mask hides costs as much as any, and short runs little."""
CPU_GRAD_RUN = 512
"""The same with gradients, where every run also adds to the gradients of all weights."""


class HFEngine:
    """A causal language model with its tokenizer.

    ``budget`` bounds the tokens of one scoring forward pass, whose memory grows with it; with gradients, a single path
    that is longer takes a pass of its own. ``rows`` bounds the sequences decoded at once. ``layout`` is "tree"
    (prefixes shared) or "padded" (a row a path; for comparison, and in any case for sequences longer than
    ``tree_limit``, where a mask of ours would not say what the model attends to). ``template`` are variables of the
    chat template. ``reuse`` bounds the tokens whose keys and values a `conversation` keeps from turn to turn: 0 keeps
    none, None as many as `agents.engines.reuse.DEFAULT_BYTES` hold.
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
        reuse: int | None = None,
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
        self.tree_limit = tree_limit(model.config.get_text_config())
        if self.tree_limit and not self._takes_trees():
            self.tree_limit = 0

    @classmethod
    def load(
        cls, path: str, *, dtype: str = "auto", device: str = "auto", attention: str = "sdpa", **options: Any
    ) -> HFEngine:
        """Load a directory or hub id. ``dtype`` "auto" is float32 on CPU, bfloat16 on CUDA."""
        from transformers import AutoModelForCausalLM

        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if dtype == "auto":
            dtype = "bfloat16" if device.startswith("cuda") else "float32"
        tokenizer = load_tokenizer(path)
        with _explained(path):
            model = AutoModelForCausalLM.from_pretrained(
                path, dtype=getattr(torch, dtype), attn_implementation=attention, local_files_only=Path(path).is_dir()
            )
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
        ours = self.head().logits(self.backbone(input_ids=ids).last_hidden_state).float()
        if not torch.allclose(theirs, ours, atol=1e-2 * float(theirs.abs().max()) + 1e-4):
            raise SetupError(
                f"model: {type(self.model).__name__} has an output head that is not a linear map with optional "
                "scale and soft cap, which the chunked loss needs"
            )

    def _takes_trees(self) -> bool:
        """Whether the model's own numbers come out of a tree that is forwarded in several runs."""
        prompts = [5, 6, 7, 8, 9], [5, 6, 7, 10], [6, 7]
        items = [(prompt, [7, 8, 9]) for prompt in prompts]
        budget, layout = self.budget, self.layout
        try:
            self.budget, self.layout = 4, "tree"
            ours = self.read(items)
            self.layout = "padded"
            theirs = self.read(items)
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
            return False  # a model without a cache, or one that makes its masks in another way
        finally:
            self.budget, self.layout = budget, layout
        tolerance = torch.finfo(theirs.dtype).eps ** 0.5
        return bool((ours - theirs).abs().max() <= tolerance * theirs.abs().max())

    def recompute_activations(self) -> None:
        """Gradient checkpointing: activations are made again in the backward pass."""
        self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        for module in self.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        self.recompute = True

    # ---- scoring

    def packs(self, items: Sequence[Scored]) -> Iterator[Tree | Rows]:
        """The forward passes that score ``items`` with gradients; items that continue each other share one."""
        trees, rows = self._sequences(items)
        yield from trees.trees(self.budget)
        yield from rows.rows(self.budget)

    def hidden(self, part: Tree | Rows) -> Tensor:
        """Hidden states [tokens, d] that predict the actions' tokens, item after item in ``part.order``.

        Gradients flow when enabled.
        """
        # transformers recomputes activations in training mode only, where it also gives up the cache.
        recompute = self.recompute and torch.is_grad_enabled()
        self.model.train(recompute)
        if recompute and isinstance(part, Tree):
            states = self._nodes(part, 0, len(part))
        else:
            runs = [states for _, states in self._runs(part, len(part.ids))]
            states = runs[0] if len(runs) == 1 else torch.cat(runs)
        self.model.eval()
        return states[torch.cat(part.nodes).to(self.device)]

    @torch.no_grad()
    def read(self, items: Sequence[Scored]) -> Tensor:
        """Hidden states [N, d] that predict the actions' tokens, item after item, without gradients.

        All items are one tree, and each of its nodes is forwarded once: the turns of an episode cost their common
        history and their branches, however long it is.
        """
        offsets = torch.tensor([0, *(len(action) for _, action in items)]).cumsum(0).tolist()
        result = torch.empty(0)
        trees, rows = self._sequences(items)
        parts: Iterator[Tree | Rows] = chain(trees.trees(UNLIMITED), rows.rows(self.budget))
        for part in parts:
            targets = torch.cat([torch.arange(offsets[i], offsets[i + 1]) for i in part.order])
            nodes, order = torch.cat(part.nodes).sort()
            targets = targets[order]
            for start, states in self._runs(part, self.budget):
                low, high = torch.searchsorted(nodes, torch.tensor([start, start + len(states)])).tolist()
                if not len(result):
                    result = states.new_empty(offsets[-1], states.shape[-1])
                result[targets[low:high].to(self.device)] = states[(nodes[low:high] - start).to(self.device)]
        return result

    def _sequences(self, items: Sequence[Scored]) -> tuple[Sequences, Sequences]:
        """What is forwarded for the items: in trees, and in rows. The last token of each leads to nothing scored."""
        limit = self.tree_limit if self.layout == "tree" else 0
        fitting: dict[int, Any] = {}
        others: dict[int, Any] = {}
        for i, (prompt, action) in enumerate(items):
            ids = np.array([*prompt, *action[:-1]], dtype=np.int32)
            (fitting if len(ids) <= limit else others)[i] = ids
        starts = {i: len(prompt) - bool(action) for i, (prompt, action) in enumerate(items)}
        return Sequences(fitting, starts), Sequences(others, starts)

    def _runs(self, part: Tree | Rows, most: int) -> Iterator[tuple[int, Tensor]]:
        """(first node, states of the nodes from there on), at most ``most`` nodes at a time."""
        if isinstance(part, Rows):
            yield 0, self._padded(part)
            return
        from transformers import DynamicCache

        cache, past = DynamicCache(), torch.zeros(0, dtype=torch.long)
        least = most
        if self.device.type == "cpu":
            least = CPU_GRAD_RUN if torch.is_grad_enabled() else CPU_RUN
        for start, stop in part.runs(min(least, most), most):
            if not start and stop == len(part):
                yield 0, self._nodes(part, 0, stop)
                break
            yield start, self._nodes(part, start, stop, past, cache)
            if stop == len(part):
                break
            keys = torch.cat([past, torch.arange(start, stop)])
            kept = part.on_path(keys, stop).nonzero()[:, 0]
            past = keys[kept]
            if not len(past):
                cache = DynamicCache()
            elif len(past) < len(keys):  # branches that were passed
                index = kept.to(self.device)
                for layer in cache.layers:
                    layer.keys, layer.values = layer.keys[:, :, index], layer.values[:, :, index]

    def _nodes(self, tree: Tree, start: int, stop: int, past: Tensor | None = None, cache: Any = None) -> Tensor:
        """States [stop - start, d] of a tree's nodes, whose path from the root is ``past`` and lies in ``cache``."""
        visible = tree.visible(start, stop, tree.ids[:0] if past is None else past)
        mask = None
        if visible is not None:
            visible, dtype = visible.to(self.device), next(self.model.parameters()).dtype
            mask = torch.zeros(visible.shape, dtype=dtype, device=self.device)
            mask.masked_fill_(visible.logical_not_(), torch.finfo(dtype).min)
        output = self.backbone(
            input_ids=tree.ids[None, start:stop].to(self.device),
            attention_mask=None if mask is None else mask[None, None],
            position_ids=tree.depths[None, start:stop].to(self.device),
            past_key_values=cache,
            use_cache=cache is not None,
        )
        states: Tensor = output.last_hidden_state
        return states[0]

    def _padded(self, rows: Rows) -> Tensor:
        """States [rows x width, d]."""
        output = self.backbone(
            input_ids=rows.ids.to(self.device),
            attention_mask=rows.mask.to(self.device),
            position_ids=torch.arange(rows.ids.shape[1], device=self.device).expand(rows.ids.shape),
            use_cache=False,
        )
        states: Tensor = output.last_hidden_state
        return states.flatten(0, 1)

    # ---- sampling

    def conversation(self) -> Generate:
        """`generate`, for calls between which the weights stay: what one forwarded, later ones need not."""
        return self.generate if self.reuse == 0 else functools.partial(self.generate, memory=Memory(self.reuse))

    @torch.no_grad()
    def generate(
        self, prompts: list[list[int]], sampling: Sampling, seed: int, memory: Memory | None = None
    ) -> list[Completion]:
        """See `Engine.generate`; ``memory`` is read and written."""
        if memory is not None:
            memory.belong_to(fingerprint(self.model))
        generator = torch.Generator(self.device).manual_seed(seed)
        fitting = (i for i in range(len(prompts)) if len(prompts[i]) < self.context_length)
        order = sorted(fitting, key=lambda i: (len(prompts[i]), prompts[i]))
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

        What all prompts share is forwarded once. Where the memory holds more than that of some prompts, the others are
        forwarded first, up to what all are to be forwarded now: no row is then padded to the length of a history.
        """
        shared = min(common_prefix(prompts[0], p) for p in prompts) if len(prompts) > 1 else 0
        shared = min(shared, min(map(len, prompts)) - 1)
        rows = memory.take(prompts, least=shared) if memory is not None else []
        if width := max((len(p) - n for p, (n, _) in zip(prompts, rows, strict=False) if n), default=0):
            if new := [i for i, (n, _) in enumerate(rows) if not n and len(prompts[i]) > width]:
                cache, mask, *_ = self._prefill([prompts[i][:-width] for i in new])
                for row, i in enumerate(new):
                    rows[i] = len(prompts[i]) - width, row_of(cache, row, mask[row])
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
        budgets = [min(sampling.max_tokens, self.context_length - len(p)) for p in prompts]
        if plain := is_plain(cache):
            give_room(cache, max(budgets))
        if len(distinct) < len(prompts):
            cache.batch_select_indices(rows)
            mask, position, logits = mask[rows], position[rows], logits[rows]
        done = [Completion([], [], "length") for _ in prompts]
        active = list(range(len(done)))
        remembers = memory is not None and plain
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


def load_tokenizer(path: str) -> Any:
    """The tokenizer of a directory or hub id; raises `SetupError` where there is none."""
    from transformers import AutoTokenizer

    with _explained(path):
        return AutoTokenizer.from_pretrained(path, local_files_only=Path(path).is_dir())


@contextmanager
def _explained(path: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise SetupError(
            f"model={path!r} could not be loaded: {reason}. Give a local Hugging Face directory, a hub id "
            "that this machine can reach, or 'smollm2-135m', which comes through the package index."
        ) from error


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
