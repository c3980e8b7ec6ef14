"""Messages to ids, token-in token-out: what was sampled is never re-encoded, and text is never a control token."""

from __future__ import annotations

from collections.abc import Sequence

from agents.errors import SetupError
from rfenvs.wrappers import ChatTemplate


class Chat(ChatTemplate):
    """A tokenizer's chat template (`rfenvs.wrappers.ChatTemplate`), and what an engine needs beside it.

    ``tokenizer`` is a Hugging Face tokenizer with a chat template; ``template`` are the template's own variables, such
    as ``{"enable_thinking": False}``.
    """

    error = SetupError

    def stop_ids(self) -> set[int]:
        """Ids that end an assistant turn: the tokenizer's EOS and the template's own end-of-turn token."""
        end = self.bridge([{"role": "user", "content": "a"}], last_action_id=-1)[:1]
        special = set(self.tokenizer.all_special_ids) | set(self.tokenizer.get_added_vocab().values())
        eos = self.tokenizer.eos_token_id
        return {i for i in end if i in special} | ({eos} if eos is not None else set())

    def decode(self, ids: Sequence[int]) -> str:
        """Text of sampled ids, special tokens left out."""
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text
