"""Text from outside to ids that hold no control token, for any tokenizer."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import threading
from collections import OrderedDict
from typing import Any

_TOKENIZERS_KEPT = 4
_TEXTS_KEPT = 8192


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


class PlainEncoder:
    """`encode_plain` with a memory, for texts that come again, as feedback on a group's attempts does. Thread-safe."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.controls = control_pattern(tokenizer)
        self.name = tokenizer_name(tokenizer)
        self._cached = functools.lru_cache(_TEXTS_KEPT)(self._encode)

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, none of them a control token; the list is the caller's."""
        return list(self._cached(text))

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(encode_plain(self.tokenizer, text, self.controls))


_encoders: OrderedDict[tuple[Any, ...], PlainEncoder] = OrderedDict()
_lock = threading.Lock()


def shared_encoder(tokenizer: Any) -> PlainEncoder:
    """The encoder that all wrappers around this tokenizer share: naming a tokenizer reads all of its vocabulary.

    A tokenizer that was given more tokens, or another chat template, counts as another one.
    """
    size = tokenizer.get_vocab_size() if hasattr(tokenizer, "get_vocab_size") else _length(tokenizer)
    template = str(getattr(tokenizer, "chat_template", None) or "")
    key = (id(tokenizer), size, control_pattern(tokenizer).pattern, template)
    with _lock:
        encoder = _encoders.pop(key, None) or PlainEncoder(tokenizer)
        _encoders[key] = encoder  # holds the tokenizer, so that its id stays its own
        if len(_encoders) > _TOKENIZERS_KEPT:
            _encoders.popitem(last=False)
    return encoder


def _length(tokenizer: Any) -> int:
    return len(tokenizer) if hasattr(tokenizer, "__len__") else len(tokenizer.get_vocab())
