"""How long a sequence may be for a prefix tree to give a model's exact numbers.

In a tree a mask of ours stands in for the model's own. It can say who sees whom, so it is exact where every layer
sees everything before it. A layer with a window does as long as sequences fit into the window.
"""

from __future__ import annotations

from typing import Any

UNLIMITED = 1 << 30


def tree_limit(config: Any) -> int:
    """Longest exact sequence, in tokens, for a text model's configuration; 0: not even a short one."""
    if config._attn_implementation not in ("sdpa", "eager"):
        return 0  # other kernels ignore such masks
    window = getattr(config, "sliding_window", None) or UNLIMITED
    widths = {
        "full_attention": UNLIMITED,
        "sliding_attention": window,
        "chunked_attention": getattr(config, "attention_chunk_size", None) or UNLIMITED,
    }
    kinds = getattr(config, "layer_types", None)
    limit = min((widths.get(kind, 0) for kind in kinds), default=UNLIMITED) if kinds else window
    if "local" in (getattr(config, "attention_layers", None) or ()):  # GPT-Neo
        limit = min(limit, int(config.window_size))
    return min(limit, _rope_limit(config))


def _rope_limit(config: Any) -> int:
    """Where rotary embeddings depend on the length of what is forwarded, the length up to which they do not."""
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = rope.values() if rope and all(isinstance(value, dict) for value in rope.values()) else [rope]
    limit = UNLIMITED
    for kind in kinds:
        if kind.get("rope_type") in ("dynamic", "longrope"):
            original = kind.get("original_max_position_embeddings") or getattr(
                config, "original_max_position_embeddings", None
            )
            limit = min(limit, int(original or config.max_position_embeddings))
    return limit
