"""Wrappers that add to what an environment says, without changing it."""

from __future__ import annotations

import hashlib
import json
import re
from collections import OrderedDict
from typing import Any

import gymnasium

from rfenvs.feedback import Item

_CACHE_SIZE = 8192


class TokenizeFeedback(gymnasium.Wrapper[str, str, str, str]):
    """Fill `token_ids` and `tokenizer` of every feedback item.

    The ids are those of the item's text alone, without a chat template around it. Literal control tokens in
    the text, such as `<|im_end|>`, are encoded as the characters they are and never become control ids.

    Args:
        env: The environment.
        tokenizer: A `transformers` tokenizer, a `tokenizers.Tokenizer`, or anything whose
            `encode(text, add_special_tokens=False)` returns ids.
    """

    def __init__(self, env: gymnasium.Env[str, str], tokenizer: Any) -> None:
        super().__init__(env)
        self._tokenizer = tokenizer
        self._controls = control_pattern(tokenizer)
        self.tokenizer_name = tokenizer_name(tokenizer)
        self._cache: OrderedDict[str, list[int]] = OrderedDict()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Reset the environment and tokenise what it says."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._fill(info["feedback"])
        return observation, info

    def step(self, action: str) -> tuple[str, Any, bool, bool, dict[str, Any]]:
        """Step the environment and tokenise what it says."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._fill(info["feedback"])
        return observation, reward, terminated, truncated, info

    def _fill(self, items: list[Item]) -> None:
        for entry in items:
            entry["token_ids"] = list(self._ids(entry["text"]))
            entry["tokenizer"] = self.tokenizer_name

    def _ids(self, text: str) -> list[int]:
        ids = self._cache.get(text)
        if ids is None:
            ids = self._cache[text] = encode_plain(self._tokenizer, text, self._controls)
            if len(self._cache) > _CACHE_SIZE:
                self._cache.popitem(last=False)
        else:
            self._cache.move_to_end(text)
        return ids


def encode_plain(tokenizer: Any, text: str, controls: re.Pattern[str] | None = None) -> list[int]:
    """Encode text from outside so that none of it becomes a control token.

    A literal control token is cut after its first character and the pieces are encoded apart, which holds
    for any tokenizer, whatever its own switches do. `controls` is `control_pattern(tokenizer)`, if known
    already.
    """
    controls = controls or control_pattern(tokenizer)
    pieces, rest = [], text
    while found := controls.search(rest):
        cut = found.start() + 1
        pieces.append(rest[:cut])
        rest = rest[cut:]
    pieces.append(rest)
    ids: list[int] = []
    for piece in pieces:
        if piece:
            encoded = tokenizer.encode(piece, add_special_tokens=False)
            ids.extend(getattr(encoded, "ids", encoded))
    return ids


def control_pattern(tokenizer: Any) -> re.Pattern[str]:
    """A pattern that finds literal control tokens: added tokens longer than one character, blanks aside."""
    if hasattr(tokenizer, "get_added_tokens_decoder"):
        contents = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    else:
        contents = set(tokenizer.get_added_vocab()) if hasattr(tokenizer, "get_added_vocab") else set()
        contents |= set(getattr(tokenizer, "all_special_tokens", ()))
    words = sorted((c for c in contents if len(c) > 1 and c.strip()), key=lambda c: (-len(c), c))
    return re.compile("|".join(map(re.escape, words)) if words else "(?!)")


def tokenizer_name(tokenizer: Any) -> str:
    """Name and content hash, so that ids of one tokenizer are never taken for another's."""
    path = str(getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__)
    name = path.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    content = [sorted(tokenizer.get_vocab().items()), str(getattr(tokenizer, "chat_template", None) or "")]
    return f"{name}@{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]}"
