"""What this machine can do, and what to install for more."""

from __future__ import annotations

import os
import pkgutil
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rfenvs.datasets import DatasetSpec
    from sandboxes import Probe

_OPTIONAL = (
    ("torch", "train and sample", "rfenvs[agents]"),
    ("transformers", "load models", "rfenvs[agents]"),
    ("peft", "LoRA", "rfenvs[agents]"),
    ("gguf", "convert the packaged model", "rfenvs[agents]"),
    ("tensorboard", "trackers=[tensorboard]", "rfenvs[trackers]"),
    ("trackio", "trackers=[trackio]", "trackio"),
    ("wandb", "trackers=[wandb]", "wandb"),
)
_MEANING = {
    "namespaced": "in its own namespaces behind a system call filter, without this host's files, network or processes",
    "landlock": "behind Landlock and a system call filter, without this host's files or network, beside its processes",
    "rlimits": "WITHOUT ISOLATION, as this user, under limits only",
}


def examine() -> str:
    """A report for a person, one finding a line."""
    from agents.models import PACKAGED
    from rfenvs.downloads import cache_dir

    lines = [f"python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores"]
    free = shutil.disk_usage(os.getcwd()).free / 1e9
    lines.append(f"disk   {free:.0f} GB free here" + ("" if free > 10 else "; a checkpoint of a 135M model takes 2 GB"))
    for package in ("gymnasium", "pydantic"):
        lines.append(f"ok     {package} {version(package)}")
    for package, purpose, extra in _OPTIONAL:
        try:
            lines.append(f"ok     {package} {version(package)}: {purpose}")
        except PackageNotFoundError:
            lines.append(f"-      {package} is missing: {purpose}; pip install '{extra}'")
    if find_spec("torch"):
        import torch

        if torch.cuda.is_available():
            memory = torch.cuda.get_device_properties(0).total_memory / 2**30
            lines.append(f"ok     CUDA: {torch.cuda.get_device_name(0)}, {memory:.0f} GiB")
        else:
            lines.append(
                f"-      no CUDA device: models of a few hundred million parameters, {torch.get_num_threads()} threads"
            )
    lines.append(_vllm_line())
    for name, spec in PACKAGED.items():
        target = cache_dir() / "models" / f"{name}-{spec.sha256[:12]}"
        state = "is cached" if target.is_dir() else "is fetched when first used (93 MB)"
        lines.append(f"ok     model {name} {state}")
    lines += _data_lines()
    lines += _sandbox_lines()
    return "\n".join(lines)


def _vllm_line() -> str:
    """Whether the policy could be sampled in vLLM."""
    from agents.engines import vllm_setup

    if found := vllm_setup.problem():
        return f"-      engine.kind=vllm cannot be used: {found}"
    return f"ok     engine.kind=vllm: {vllm_setup.installed()}"


def _data_lines() -> list[str]:
    """For each data set, what an environment without `data=` would read; nothing is downloaded."""
    from rfenvs.datasets import TABLE

    return [_data_line(pkgutil.resolve_name(place)) for place in TABLE.values()]


def _data_line(spec: DatasetSpec) -> str:
    from rfenvs.datasets import DATA_DIR
    from rfenvs.downloads import cache_dir, cached

    names = spec.default or tuple(entry.path for entry in spec.files)
    root = os.environ.get(DATA_DIR)
    if root and (folder := Path(root) / spec.id).is_dir():
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            return f"-      data {spec.id}: the folder {folder} lacks {', '.join(missing)}: complete or remove it"
        return f"ok     data {spec.id}: {folder}"
    if not spec.revision:
        return f"-      data {spec.id}: only the sample is here; set {DATA_DIR} to a folder that holds {spec.id}"
    looked = f"{DATA_DIR}={root}" if root else f"{DATA_DIR}, which is not set,"
    remedy = f"`rfenvs data fetch {spec.id}`"
    cache = str(cache_dir() / "data")
    if spec.host == "huggingface":
        if not find_spec("huggingface_hub"):
            remedy = f"pip install 'rfenvs[hub]', then {remedy}"
            return f"-      data {spec.id}: only the sample is here; looked in {looked}; {remedy}"
        from huggingface_hub import constants

        cache = constants.HF_HUB_CACHE
    if all(cached(spec, name) for name in names):
        return f"ok     data {spec.id}: in the cache, {cache}"
    return f"-      data {spec.id}: only the sample is here; looked in {looked} and the cache, {cache}; {remedy}"


def _sandbox_lines() -> list[str]:
    """The layers of isolation that this host gives, and what they mean for model-written code."""
    import sandboxes

    found = sandboxes.probe()
    lines = [
        f"{'ok ' if layer.ok else '-  '}    sandbox {layer.name}{': ' + layer.why if layer.why else ''}"
        for layer in found.layers
    ]
    lines.append(f"{'ok ' if found.docker_ok else '-  '}    docker: {found.docker}")
    required = os.environ.get("SANDBOX_MIN_ISOLATION") or "landlock"
    return [*lines, what_it_means(found, required)]


def what_it_means(found: Probe, required: str) -> str:
    """One sentence: where model-written code runs with `sandbox="auto"`, and what is refused.

    Args:
        found: What this host gives.
        required: The weakest level that is accepted, `SANDBOX_MIN_ISOLATION`.
    """
    from sandboxes import LEVELS

    if required not in LEVELS:
        return (
            f"-      model-written code is not run: SANDBOX_MIN_ISOLATION={required!r} is none of {', '.join(LEVELS)}"
        )
    below = f"below {required!r} grading is refused (SANDBOX_MIN_ISOLATION)"
    if found.level in LEVELS and LEVELS.index(found.level) >= LEVELS.index(required):
        mark = "-  " if found.level == "rlimits" else "ok "
        return f"{mark}    model-written code runs {_MEANING[found.level]}: level {found.level!r}; {below}"
    if found.docker_ok:
        return f"ok     model-written code runs in Docker containers: level 'container'; {below}"
    return (
        f"-      model-written code is not run: this host reaches level {found.level!r}, and {below}; start a Docker "
        "engine, or allow unprivileged user namespaces"
    )
