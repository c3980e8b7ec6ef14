"""The vLLM engine: a copy of the policy in vLLM, in this process, that samples and takes new weights in place.

Token ids go in and come out; vLLM sees no text and chooses no stop token of its own. Log-probabilities are its
``processed_logprobs``, those after the temperature. With ``top_p`` below 1 they are also those of the nucleus,
renormalised; training does not allow that.

The weights come from the learner by `VLLMEngine.sync`, name by name, in the names of the checkpoint. LoRA adapters are
merged into what is handed over, and the trained model stays as it is: one path for all models, and vLLM decodes plain
matrices. Its own LoRA requests would need an adapter on the disk and a new name for every version.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from agents.chat import Chat
from agents.engines.base import Completion, EngineSettings, Generate, Sampling
from agents.engines.hf import load_tokenizer
from agents.engines.vllm_setup import explain, require

GIB = 2**30
CPU_BLOCK = 32
"""Tokens of a block of the prefix cache, the fewest that vLLM's CPU kernels take."""
Weights = Iterable[tuple[str, Tensor]]
"""Names as in the model's checkpoint, and tensors of any floating dtype, on any device."""


class VLLMEngine:
    """Samples from vLLM's copy of a model; see `agents.engines.base.Engine`.

    ``llm`` is a `vllm.LLM` in this process (``VLLM_ENABLE_V1_MULTIPROCESSING=0``) with ``processed_logprobs``.
    ``source`` is asked before every call: it gives a version, and a function that yields the weights of that version.
    """

    def __init__(self, llm: Any, chat: Chat, stop_ids: set[int]) -> None:
        self.llm, self.chat, self.tokenizer, self.stop_ids = llm, chat, chat.tokenizer, stop_ids
        self.context_length = int(llm.llm_engine.model_config.max_model_len)
        self.version: int | None = None
        """Of the weights that it samples from; None: those that it was loaded with."""
        self.source: Callable[[], tuple[int, Callable[[], Weights]]] | None = None

    @classmethod
    def load(cls, path: str, settings: EngineSettings, template: Mapping[str, Any] | None = None) -> VLLMEngine:
        """Start vLLM on a directory or hub id; ``template`` are variables of the chat template.

        Raises:
            SetupError: vLLM is missing, disagrees with what is installed beside it, or cannot run this model.
        """
        require()
        tokenizer = load_tokenizer(path)
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # a generator of weights cannot travel to another process
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        from vllm import LLM
        from vllm.platforms import current_platform

        on_cpu = current_platform.is_cpu()
        dtype = settings.dtype if settings.dtype != "auto" else "float32" if on_cpu else "bfloat16"
        memory: dict[str, Any] = {"gpu_memory_utilization": settings.gpu_memory_fraction}
        if on_cpu:  # whole blocks are shared, and a CPU's default of 128 tokens is longer than many a prompt
            memory = {"kv_cache_memory_bytes": int(settings.cpu_cache_gib * GIB), "block_size": CPU_BLOCK}
        set_threads = torch.set_num_threads  # vLLM's CPU worker replaces it by a warning, for the whole process
        try:
            with explain(path, settings):
                llm = LLM(
                    model=path,
                    dtype=dtype,
                    max_model_len=settings.max_model_len or -1,
                    enforce_eager=settings.enforce_eager,
                    enable_prefix_caching=True,
                    logprobs_mode="processed_logprobs",
                    skip_tokenizer_init=True,
                    generation_config="vllm",
                    **memory,
                )
        finally:
            torch.set_num_threads = set_threads
        chat = Chat(tokenizer, template)
        engine = cls(llm, chat, chat.stop_ids() | _configured_stop_ids(path))
        with explain(path, settings):  # what a CPU has no kernel for is first asked for here
            engine.generate([[5, 6, 7]], Sampling(max_tokens=1), seed=0)
        return engine

    # ---- weights

    def follow(self, model: torch.nn.Module, version: Callable[[], int]) -> None:
        """Take the weights of ``model`` before a call wherever ``version()`` has changed since the last one."""
        self.source = lambda: (version(), lambda: merged_weights(model))

    def sync(self, weights: Weights, version: int) -> None:
        """Replace the weights in place; whatever was cached of the old ones is dropped."""
        self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(weights)})
        self.version = version
        self.forget()

    def forget(self) -> None:
        """Drop the keys and values of earlier calls."""
        if not self.llm.reset_prefix_cache():
            raise RuntimeError("vLLM kept its prefix cache: a request is still running")

    def _update(self) -> None:
        if self.source is not None:
            version, weights = self.source()
            if version != self.version:
                self.sync(weights(), version)

    # ---- sampling

    def conversation(self) -> Generate:
        """`generate` for calls that continue each other: later ones find what earlier ones forwarded."""
        self.forget()
        return self._generate

    def generate(self, prompts: list[list[int]], sampling: Sampling, seed: int) -> list[Completion]:
        """See `Engine.generate`. Nothing is kept from earlier calls, so that equal calls are equal to the last bit."""
        self.forget()
        return self._generate(prompts, sampling, seed)

    def _generate(self, prompts: list[list[int]], sampling: Sampling, seed: int) -> list[Completion]:
        from vllm import TokensPrompt

        self._update()
        wanted = Counter(tuple(p) for p in prompts if len(p) < self.context_length)
        asked = [TokensPrompt(prompt_token_ids=list(p)) for p in wanted]
        settings = [self._settings(p, n, sampling, f"{seed}:{k}") for k, (p, n) in enumerate(wanted.items())]
        answers = self.llm.generate(asked, settings, use_tqdm=False) if asked else []
        made = {p: [self._completion(o) for o in a.outputs] for p, a in zip(wanted, answers, strict=True)}
        results, taken = [], Counter[tuple[int, ...]]()
        for prompt in map(tuple, prompts):
            done = made.get(prompt, [Completion([], [], "length")])
            chosen = done[taken[prompt] % len(done)]  # greedy attempts are made once
            results.append(Completion(list(chosen.ids), list(chosen.logprobs), chosen.finish_reason))
            taken[prompt] += 1
        return results

    def _settings(self, prompt: tuple[int, ...], n: int, sampling: Sampling, seed: str) -> Any:
        from vllm import SamplingParams

        return SamplingParams(
            n=n if sampling.temperature > 0 else 1,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=min(sampling.max_tokens, self.context_length - len(prompt)),
            seed=random.Random(seed).getrandbits(48),  # vLLM adds 1 an attempt: seeds of prompts must lie far apart
            stop_token_ids=sorted(self.stop_ids),
            ignore_eos=True,
            logprobs=0,
            detokenize=False,
        )

    def _completion(self, output: Any) -> Completion:
        ids = list(output.token_ids)
        logprobs = [float(known[token].logprob) for token, known in zip(ids, output.logprobs, strict=True)]
        return Completion(ids, logprobs, "stop" if ids and ids[-1] in self.stop_ids else "length")

    def close(self) -> None:
        """Give the memory back; another engine may then be loaded."""
        from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

        self.llm.llm_engine.engine_core.shutdown()
        del self.llm
        cleanup_dist_env_and_memory()


@torch.no_grad()
def merged_weights(model: Any) -> Iterator[tuple[str, Tensor]]:
    """A model's weights in the names of its checkpoint, LoRA adapters merged in, one at a time.

    The model is left as it is. Sums are made in the wider of the two dtypes.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    adapted = {name: module for name, module in base.named_modules() if hasattr(module, "get_delta_weight")}
    for name, weight in base.state_dict().items():
        owner, found, field = name.rpartition(".base_layer.")
        if found:
            if field == "weight":
                module = adapted[owner]
                for adapter in module.active_adapters:
                    weight = weight + module.get_delta_weight(adapter)
            yield f"{owner}.{field}", weight
        elif ".lora_" not in name:
            yield name, weight


def _configured_stop_ids(path: str) -> set[int]:
    """What generation_config.json, or else config.json, calls the end."""
    from transformers import AutoConfig, GenerationConfig

    try:
        config: Any = GenerationConfig.from_pretrained(path)
    except OSError:
        config = AutoConfig.from_pretrained(path)
    eos = config.eos_token_id
    return set(eos if isinstance(eos, list) else [] if eos is None else [eos])
