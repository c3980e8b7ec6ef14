"""The configuration of a run: pydantic, from a recipe's published settings, a file, and the command line.

Later wins: field defaults < the recipe's ``run_defaults`` < the file < the command line. A wrong or incompatible
setting is an error that names the field, before a model is loaded.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationError, model_validator

import rfenvs
from agents import recipes
from agents.engines.base import EngineSettings, Sampling
from agents.errors import SetupError
from agents.history import RolloutSettings
from agents.recipes.base import Recipe, TaughtRecipe
from agents.training.alarms import AlarmSettings
from agents.training.learner import OptimSettings


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")


class EnvSettings(_Settings):
    """The environment and its splits."""

    id: str = Field("rfenvs/ToolCall-v0", description="a registered Gymnasium id")
    kwargs: dict[str, Any] = Field({}, description="arguments of the environment, for example '{level: 2}'")
    split: str = Field("train", description="split to train on")
    workers: int = Field(1, ge=1, description="threads that step environments; more than 1 pays where grading waits")


class ModelSettings(_Settings):
    """The policy."""

    name: str = Field(
        "smollm2-135m",
        description="a Hugging Face directory or hub id, or 'smollm2-135m' from the package index",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto: float32 on CPU, and where all weights are trained; else bfloat16 on CUDA"
    )
    device: str = Field("auto", description="auto: CUDA if there is one")
    attention: str = Field("sdpa", description="transformers' attention implementation: sdpa or eager")
    lora_rank: int = Field(0, ge=0, description="rank of LoRA adapters on all linear layers; 0 trains all weights")
    lora_alpha: float = Field(32.0, gt=0, description="LoRA scale")
    gradient_checkpointing: bool = Field(False, description="recompute activations: less memory, a third more time")
    pack_tokens: int = Field(2048, ge=16, description="tokens of one scoring forward pass")
    sample_rows: int = Field(256, ge=1, description="sequences sampled at a time; their cache must fit the memory")
    reuse_tokens: int | None = Field(
        None,
        ge=0,
        description="tokens whose keys and values are kept from turn to turn; none: as many as take 1 GiB; "
        "0 forwards histories again",
    )
    layout: Literal["tree", "padded"] = Field(
        "tree", description="tree: shared prefixes once; padded: a row a sequence"
    )
    template: dict[str, Any] = Field(
        {}, description="variables of the chat template, for example '{enable_thinking: false}'"
    )


class BatchSettings(_Settings):
    """One rollout batch."""

    tasks: int = Field(32, ge=1, description="tasks a step")
    attempts: int = Field(8, ge=1, description="attempts at each task: the group")


class EvalSettings(_Settings):
    """Held-out evaluation."""

    split: str = Field(
        "test", description="never the training split; where the environment has no test split, its last one"
    )
    tasks: int = Field(64, ge=0, description="tasks; 0 turns evaluation off")
    attempts: int = Field(4, ge=1, description="sampled attempts a task")
    temperature: float = Field(1.0, gt=0, description="sampling temperature; a greedy attempt is made besides")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus mass of the sampled attempts")
    every: int = Field(0, ge=0, description="steps between evaluations; 0: only before and after")
    seed: int = Field(10_000, description="picks the tasks")


class TrainConfig(_Settings):
    """Everything a run depends on."""

    recipe: SerializeAsAny[Recipe]
    env: EnvSettings = EnvSettings()
    model: ModelSettings = ModelSettings()
    engine: EngineSettings = EngineSettings()
    sampling: Sampling = Sampling()
    rollout: RolloutSettings = RolloutSettings()
    batch: BatchSettings = BatchSettings()
    optim: OptimSettings = OptimSettings()
    eval: EvalSettings = EvalSettings()
    alarms: AlarmSettings = AlarmSettings()
    steps: int = Field(100, ge=0, description="rollout batches")
    seed: int = Field(0, description="seeds tasks, sampling and contexts")
    run_dir: Path | None = Field(
        None, description="where the run is written; default runs/<recipe>-<environment>-<seed>"
    )
    save_every: int = Field(10, ge=0, description="steps between checkpoints; 0: only the final model")
    save_final: bool = Field(True, description="write the trained model to checkpoints/final")
    check_teacher: int = Field(8, ge=0, description="tasks of the teacher check before training; 0 skips it")
    record_tokens: int = Field(3, ge=0, description="teacher's alternatives recorded a token; 0 records no tokens")
    trackers: list[str] = Field([], description="of tensorboard, trackio, wandb")
    threads: int = Field(0, ge=0, description="torch threads; 0: torch's own choice")
    note: str = Field("", description="said at the start and at the end of the run, and kept in summary.json")

    @model_validator(mode="after")
    def _compatible(self) -> TrainConfig:
        if "split" not in self.eval.model_fields_set:
            self.eval = self.eval.model_copy(update={"split": _held_out(self.env.id)})
        if self.eval.tasks and self.eval.split == self.env.split:
            raise ValueError(
                f"eval.split and env.split are both {self.env.split!r}; evaluate on a held-out split, "
                "or set eval.tasks=0"
            )
        if self.sampling.temperature == 0:
            raise ValueError("sampling.temperature=0 makes equal attempts; training needs a positive temperature")
        if self.sampling.top_p < 1:
            raise ValueError("sampling.top_p must be 1 in training: log-probabilities are those of the full softmax")
        if self.optim.steps_per_batch > self.batch.tasks * self.batch.attempts:
            raise ValueError("optim.steps_per_batch is more than batch.tasks x batch.attempts samples")
        if self.alarms.action == "rollback" and not self.save_every:
            raise ValueError(
                "alarms.action='rollback' goes back to a checkpoint, but save_every=0 writes none; set save_every, or "
                "alarms.action='stop'"
            )
        recipe = self.recipe
        recipe.check_run(self)
        if isinstance(recipe, TaughtRecipe):
            recipe.check_teachers()
            for teacher in recipe.teachers().values():
                teacher.check_temperature(self.sampling.temperature)
            if recipe.context.reveals and not recipe.context.allow_reference:
                raise ValueError(
                    f"recipe.context.sources={recipe.context.sources} reveals the reference, but "
                    "recipe.context.allow_reference is false; set it to true to let the teacher see it"
                )
            if recipe.context.placement == "head" and (
                self.rollout.history is not None or self.rollout.thinking in ("template", "tool_cycle")
            ):
                raise ValueError(
                    "recipe.context.placement='head' has one hint for an episode that is one row of tokens, but "
                    f"rollout.history={self.rollout.history} with rollout.thinking={self.rollout.thinking!r} starts "
                    "rows anew; use recipe.context.placement='turn', or rollout.history=none and thinking='keep'"
                )
            if recipe.context.sources == ["sibling"] and self.batch.attempts < 2:
                raise ValueError("recipe.context.sources=['sibling'] needs batch.attempts of at least 2")
        return self

    def eval_sampling(self) -> Sampling:
        """How held-out attempts are drawn."""
        return self.sampling.model_copy(update={"temperature": self.eval.temperature, "top_p": self.eval.top_p})

    def directory(self) -> Path:
        """Where this run is written."""
        name = self.env.id.rpartition("/")[2].lower()
        return self.run_dir or Path("runs") / f"{type(self.recipe).name}-{name}-s{self.seed}"


def _held_out(env: str) -> str:
    """The split that a run is evaluated on where it names none."""
    try:
        splits = rfenvs.splits(env)
    except (ValueError, TypeError):  # another author's environment
        return "test"
    return "test" if "test" in splits else splits[-1]


def build(settings: Mapping[str, Any]) -> TrainConfig:
    """Validate nested settings; ``recipe`` is a name, a mapping with ``name``, or a `Recipe`."""
    given = dict(settings)
    chosen = given.pop("recipe", None)
    if chosen is None:
        raise SetupError(f"no recipe given; there are {', '.join(recipes.names())}")
    method: dict[str, Any] = {}
    if isinstance(chosen, Recipe):
        kind = type(chosen)
    else:
        method = {"name": chosen} if isinstance(chosen, str) else dict(chosen)
        name = method.pop("name", None)
        if name is None:
            raise SetupError(f"recipe.name is missing; there are {', '.join(recipes.names())}")
        kind = recipes.get(name)
    try:
        recipe = chosen if isinstance(chosen, Recipe) else kind(**_defaulted(kind, method))
        return TrainConfig(recipe=recipe, **merged(kind.run_defaults, given))
    except ValidationError as error:
        raise SetupError(_explain(error, kind)) from error


def _defaulted(kind: type[Recipe], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings given in part keep the recipe's own defaults for the rest."""
    result = dict(fields)
    for name, value in fields.items():
        field = kind.model_fields.get(name)
        if field is not None and isinstance(field.default, BaseModel) and isinstance(value, Mapping):
            result[name] = merged(field.default.model_dump(), value)
    return result


def packaged() -> dict[str, str]:
    """Names of the packaged settings files, each with the first sentence of its comment."""
    found = {}
    for entry in sorted(files("agents.recipes").iterdir(), key=lambda entry: entry.name):
        name, dot, suffix = entry.name.rpartition(".")
        if dot and suffix == "toml":
            comment = " ".join(line[1:].strip() for line in entry.read_text().splitlines() if line.startswith("#"))
            found[name] = re.sub(r"^`[^`]*`: ", "", comment).split(". ")[0].rstrip(".")
    return found


def load(source: str, overrides: Mapping[str, Any] | None = None) -> TrainConfig:
    """Configuration from a recipe's name or place, a packaged file's name (``quickstart``), or a TOML or YAML path."""
    settings: Mapping[str, Any]
    path = Path(source)
    if source in recipes.names() or recipes.is_place(source):
        settings = {"recipe": {"name": source}}
    elif source in packaged():
        settings = tomllib.loads((files("agents.recipes") / f"{source}.toml").read_text())
    elif path.is_file():
        settings = _parse(path)
    elif path.suffix in (".toml", ".yaml", ".yml"):
        raise SetupError(f"there is no file {source!r}")
    else:
        known = [*recipes.names(), *packaged()]
        near = difflib.get_close_matches(source, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise SetupError(f"recipe={source!r} is unknown; {hint}there are {', '.join(known)}")
    settings = {**settings, "recipe": _as_mapping(settings.get("recipe", {}))}
    extra = dict(overrides or {})
    if "recipe" in extra:
        extra["recipe"] = _as_mapping(extra["recipe"])
    return build(merged(settings, extra))


def _as_mapping(recipe: Any) -> Any:
    return {"name": recipe} if isinstance(recipe, str) else recipe


def _parse(path: Path) -> Mapping[str, Any]:
    text = path.read_text()
    try:
        settings = tomllib.loads(text) if path.suffix == ".toml" else yaml.safe_load(text)
    except (tomllib.TOMLDecodeError, yaml.YAMLError) as error:
        raise SetupError(f"{path}: {error}") from error
    if not isinstance(settings, dict):
        raise SetupError(f"{path} holds no settings")
    return settings


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Deep merge, ``above`` winning."""
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        # An environment's arguments are one value, not a namespace.
        nested = isinstance(old, Mapping) and isinstance(value, Mapping)
        result[key] = merged(old, value) if nested else value  # type: ignore[arg-type]
    return result


def parse_overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """``--optim.lr 1e-5 --env.kwargs='{level: 2}'`` as nested settings; values are YAML."""
    result: dict[str, Any] = {}
    queue = list(arguments)
    while queue:
        argument = queue.pop(0)
        if not argument.startswith("--"):
            raise SetupError(f"unexpected argument {argument!r}; settings are written --section.field VALUE")
        name, equals, value = argument[2:].partition("=")
        if not equals:
            if not queue:
                raise SetupError(f"--{name} needs a value")
            value = queue.pop(0)
        parsed: Any = yaml.safe_load(value)
        for key in reversed(name.replace("-", "_").split(".")):
            parsed = {key: parsed}
        result = merged(result, parsed)
    return result


def fields(
    model: type[BaseModel], prefix: str = "", values: BaseModel | None = None
) -> Iterator[tuple[str, str, Any, str]]:
    """(dotted name, type, default, description) of every field, nested models opened.

    A nested model's defaults are those that the outer one gives it: ``values``.
    """
    for name, field in model.model_fields.items():
        annotation = field.annotation
        default = field.get_default(call_default_factory=True, validated_data={})
        if values is not None:
            default = getattr(values, name)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel) and not issubclass(annotation, Recipe):
            yield from fields(annotation, f"{prefix}{name}.", default if isinstance(default, annotation) else None)
        elif not (isinstance(annotation, type) and issubclass(annotation, Recipe)):
            kind = getattr(annotation, "__name__", str(annotation)) if isinstance(annotation, type) else str(annotation)
            yield f"{prefix}{name}", kind.replace("typing.", ""), default, field.description or ""


def _explain(error: ValidationError, recipe: type[Recipe]) -> str:
    known = [name for name, *_ in fields(TrainConfig)]
    known_recipe = [name for name, *_ in fields(recipe)]
    lines = []
    for problem in error.errors():
        name = ".".join(map(str, problem["loc"]))
        inside_recipe = error.title == recipe.__name__
        shown = f"recipe.{name}" if inside_recipe else name
        if problem["type"] == "extra_forbidden":
            candidates = known_recipe if inside_recipe else known
            near = difflib.get_close_matches(name, candidates, n=1, cutoff=0.5)
            if not near:
                near = [c for c in candidates if c.rpartition(".")[2] == name.rpartition(".")[2]][:1]
            hint = f"; did you mean {'recipe.' if inside_recipe else ''}{near[0]}?" if near else ""
            lines.append(f"{shown} is not a setting{hint}")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{shown}={problem['input']!r}: {message}" if name else message)
    return "\n".join(lines)
