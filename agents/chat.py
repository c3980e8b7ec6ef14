"""Messages to ids, token-in token-out: what was sampled is never re-encoded, and text is never a control token."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from agents.errors import SetupError
from rfenvs.wrappers import ChatTemplate


class Chat(ChatTemplate):
    """A tokenizer's chat template (`rfenvs.wrappers.ChatTemplate`), and what an engine needs beside it.

    ``tokenizer`` is a Hugging Face tokenizer with a chat template; ``template`` are the template's own variables, such
    as ``{"enable_thinking": False}``.
    """

    error = SetupError

    @functools.cached_property
    def _end(self) -> tuple[int, ...]:
        end = self.bridge([{"role": "user", "content": "a"}], last_action_id=-1)[:1]
        special = set(self.tokenizer.all_special_ids) | set(self.tokenizer.get_added_vocab().values())
        eos = self.tokenizer.eos_token_id
        return tuple(end if end and end[0] in special else [] if eos is None else [eos])

    def end_of_turn(self) -> list[int]:
        """The id that closes an action: the template's end-of-turn token, else EOS; nothing if there is neither."""
        return list(self._end)

    def written(self, text: str) -> list[int]:
        """Ids of ``text`` as an action: nothing in it is a control token, and it is closed."""
        return self.plain(text) + self.end_of_turn()

    def stop_ids(self) -> set[int]:
        """Ids that end an assistant turn: the tokenizer's EOS and the template's own end-of-turn token."""
        eos = self.tokenizer.eos_token_id
        return set(self._end) | ({eos} if eos is not None else set())

    def decode(self, ids: Sequence[int]) -> str:
        """Text of sampled ids, special tokens left out."""
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text
