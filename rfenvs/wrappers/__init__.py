"""Wrappers that add to what an environment says, or show it in another form, without changing it."""

from rfenvs.wrappers.chat_template import ChatTemplate, Renderer
from rfenvs.wrappers.feedback import TokenizeFeedback
from rfenvs.wrappers.observations import ChatObservation, TokenObservation, TranscriptObservation
from rfenvs.wrappers.tokens import control_pattern, encode_plain, tokenizer_name

__all__ = [
    "ChatObservation",
    "ChatTemplate",
    "Renderer",
    "TokenObservation",
    "TokenizeFeedback",
    "TranscriptObservation",
    "control_pattern",
    "encode_plain",
    "tokenizer_name",
]
