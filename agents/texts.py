"""Texts of a file, to be learnt as they are: what keeps a policy's language while something else is trained."""

from __future__ import annotations

import json
from pathlib import Path

from agents.errors import SetupError


def read_texts(path: str, setting: str) -> list[str]:
    """Texts of a file, empty ones left out: of ``.jsonl`` the field "text" of each line, else each paragraph.

    Raises:
        SetupError: The file cannot be read, or holds no text; ``setting`` is where its name came from.
    """
    try:
        content = Path(path).read_text(encoding="utf-8")
        if path.endswith(".jsonl"):
            found = [str(json.loads(line)["text"]) for line in content.splitlines() if line.strip()]
        else:
            found = content.split("\n\n")
    except (OSError, UnicodeError, ValueError, KeyError, TypeError) as error:
        raise SetupError(
            f"{setting}={path!r} cannot be read as texts ({type(error).__name__}: {error}): give a text file with an "
            'empty line between texts, or a .jsonl file whose lines have a field "text"'
        ) from error
    texts = [text.strip() for text in found if text.strip()]
    if not texts:
        raise SetupError(f"{setting}={path!r} holds no text")
    return texts
