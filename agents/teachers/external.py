"""A teacher that is another model: loaded beside the policy, and checked to speak of the same tokens."""

from __future__ import annotations

from torch.nn import Parameter

from agents.engines.hf import HFEngine, load_tokenizer
from agents.errors import SetupError
from agents.models import resolve


def load_external(engine: HFEngine, model: str, dtype: str = "auto", device: str = "auto") -> HFEngine:
    """The model of a directory or hub id, to teach the policy of ``engine`` on the policy's own ids.

    Raises `SetupError` where it cannot be loaded, where a token has another id in its tokenizer than in the
    policy's, or where its head is smaller than the policy's. A larger head (Qwen2.5 pads its larger models to 152,064
    entries, its smaller ones to 151,936) is cut to the policy's, before the softmax: the same outcomes on both sides.
    Which tokens a tokenizer calls end, beginning or padding may differ: nothing that is scored depends on it.
    """
    try:
        path = resolve(model)
        ours, theirs = engine.tokenizer.get_vocab(), load_tokenizer(path).get_vocab()
        if ours != theirs:  # said before gigabytes are loaded
            raise SetupError(
                f"{model!r} has another tokenizer than the policy: {_difference(ours, theirs)}."
                " A teacher scores the policy's own ids, so every token must have the same id in both; take a teacher "
                "of the policy's model family"
            )
        reader = HFEngine.load(
            path,
            dtype=dtype,
            device=str(engine.device) if device == "auto" else device,
            budget=engine.budget,
            rows=engine.rows,
            layout=engine.layout,
        )
    except SetupError as error:
        raise SetupError(f"recipe.teacher.model: {error}") from error
    size, found = len(engine.head().weight), len(reader.head().weight)
    if found < size:
        raise SetupError(
            f"recipe.teacher.model={model!r} has an output head of {found} entries, the policy one of {size}: the "
            "teacher would have no word on some of the policy's outcomes. Take a teacher whose config.vocab_size is at "
            "least the policy's"
        )
    layer = reader.model.get_output_embeddings()
    layer.weight = Parameter(layer.weight.detach()[:size])  # a view; tied input embeddings stay whole
    if getattr(layer, "bias", None) is not None:
        layer.bias = Parameter(layer.bias.detach()[:size])
    reader.model.requires_grad_(False)
    reader.stop_ids |= engine.stop_ids  # it answers the policy's prompts, in the policy's chat template
    return reader


def _difference(ours: dict[str, int], theirs: dict[str, int]) -> str:
    """The first tokens on which two vocabularies disagree, in the order of ids."""
    tokens = sorted(ours.keys() | theirs.keys(), key=lambda t: (min(ours.get(t, 1 << 62), theirs.get(t, 1 << 62)), t))
    found = [
        f"{t!r} is {ours.get(t, 'missing')} in the policy's and {theirs.get(t, 'missing')} in the teacher's"
        for t in tokens
        if ours.get(t) != theirs.get(t)
    ]
    more = f", and {len(found) - 3} more" if len(found) > 3 else ""
    return f"{len(ours)} tokens against {len(theirs)}; {'; '.join(found[:3])}{more}"
