"""`TokenizeFeedback`: the ids of every feedback item."""

from __future__ import annotations

from typing import Any

import gymnasium

from rfenvs.feedback import Item
from rfenvs.wrappers.chat_template import Renderer
from rfenvs.wrappers.tokens import shared_encoder


class TokenizeFeedback(gymnasium.Wrapper[str, str, str, str]):
    """Fill `token_ids` and `tokenizer` of every feedback item.

    The ids are those of the item's text alone, without a chat template around it. Literal control tokens in
    the text, such as `<|im_end|>`, are encoded as the characters they are and never become control ids.

    With a `renderer`, `info["feedback_turns"]` holds for each item, in order, the same text as a user turn of a chat:
    `{"id": the item's, "token_ids": [...], "content_mask": [...]}`, where the mask is False for the scaffold.

    Args:
        env: The environment.
        tokenizer: A `transformers` tokenizer, a `tokenizers.Tokenizer`, or anything whose
            `encode(text, add_special_tokens=False)` returns ids.
        renderer: `rfenvs.wrappers.ChatTemplate(tokenizer)`, or anything like it.
    """

    def __init__(self, env: gymnasium.Env[str, str], tokenizer: Any, renderer: Renderer | None = None) -> None:
        super().__init__(env)
        self._encoder = shared_encoder(tokenizer)
        self._renderer = renderer
        self.tokenizer_name = self._encoder.name

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Reset the environment and tokenise what it says."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._fill(info)
        return observation, info

    def step(self, action: str) -> tuple[str, Any, bool, bool, dict[str, Any]]:
        """Step the environment and tokenise what it says."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._fill(info)
        return observation, reward, terminated, truncated, info

    def _fill(self, info: dict[str, Any]) -> None:
        items: list[Item] = info["feedback"]
        for entry in items:
            entry["token_ids"] = self._encoder.encode(entry["text"])
            entry["tokenizer"] = self.tokenizer_name
        if self._renderer is not None:
            info["feedback_turns"] = [self._turn(self._renderer, entry) for entry in items]

    def _turn(self, renderer: Renderer, entry: Item) -> dict[str, Any]:
        ids, content = renderer.turn({"role": "user", "content": entry["text"]})
        return {"id": entry["id"], "token_ids": ids, "content_mask": content}
