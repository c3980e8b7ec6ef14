"""The run directory's two logs: ``metrics.jsonl`` and ``trajectories.jsonl``, one JSON object a line.

A run can be killed at any instant. Whole lines are flushed, a line torn by the kill is dropped when the file
is read or opened again, and `truncate_to_step` takes back what a resumed run is going to repeat.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

METRICS_FILE = "metrics.jsonl"
TRAJECTORIES_FILE = "trajectories.jsonl"


class MetricsWriter:
    """Appends to the two logs of a run; every call leaves whole lines on the file system.

    >>> import tempfile
    >>> run_dir = tempfile.mkdtemp()
    >>> with MetricsWriter(run_dir) as writer:
    ...     writer.log(3, "train", {"reward": 0.5, "loss": float("nan")})
    >>> read_jsonl(Path(run_dir) / "metrics.jsonl")
    [{'step': 3, 'kind': 'train', 'reward': 0.5, 'loss': None}]
    """

    def __init__(self, run_dir: str | os.PathLike[str]) -> None:
        root = Path(run_dir)
        root.mkdir(parents=True, exist_ok=True)
        self._metrics = _open_for_append(root / METRICS_FILE)
        self._trajectories = _open_for_append(root / TRAJECTORIES_FILE)

    def log(self, step: int, kind: str, values: Mapping[str, Any]) -> None:
        """Append one row to ``metrics.jsonl``. ``kind`` is ``train``, ``eval``, ``teacher``, ``alarm`` or ``stop``."""
        _append(self._metrics, [{"step": step, "kind": kind, **values}])

    def log_trajectories(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows to ``trajectories.jsonl``; their layout is in ``docs/run-directory.md``."""
        _append(self._trajectories, rows)

    def close(self) -> None:
        """Close both files."""
        self._metrics.close()
        self._trajectories.close()

    def __enter__(self) -> MetricsWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_jsonl(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Every row of the file, in order; an absent file has none, and NaN or infinity reads as None.

    A torn last line is ignored. Damage anywhere else raises ValueError, which names the file and the line.
    """
    return [row for _, row in iter_jsonl(path)]


def iter_jsonl(path: str | os.PathLike[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Like `read_jsonl`, a row at a time, each with the byte offset where its line starts."""
    if not Path(path).exists():
        return
    with open(path, "rb") as file:
        offset = 0
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    row = parse_row(line)
                except ValueError as error:
                    if not line.endswith(b"\n"):
                        return
                    raise ValueError(f"{path}, line {number}: {error}; delete the line to go on") from error
                yield offset, row
            offset += len(line)


def truncate_to_step(path: str | os.PathLike[str], step: int, keep_kinds: Collection[str] = ()) -> int:
    """Drop the rows that a run resumed at ``step`` will write again; return how many were dropped.

    A row goes when ``row["step"] >= step``, except that rows of the ``keep_kinds`` stay at exactly ``step``:
    name there what was written before the checkpoint of that step. The file is replaced in one move, so call
    this before a `MetricsWriter` opens it.
    """
    path = Path(path)
    if not path.exists():
        return 0
    dropped = 0
    partial = path.with_name(path.name + ".partial")
    with open(path, "rb") as source, open(partial, "wb") as target:
        for offset, row in iter_jsonl(path):
            if row["step"] < step or (row["step"] == step and row.get("kind") in keep_kinds):
                source.seek(offset)
                target.write(source.readline().rstrip(b"\n") + b"\n")
            else:
                dropped += 1
        target.flush()
        os.fsync(target.fileno())
    os.replace(partial, path)
    return dropped


def jsonable(value: Any) -> Any:
    """``value`` as strict JSON can hold it: NaN and infinity become None, array scalars Python numbers."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if hasattr(value, "item"):
        return jsonable(value.item())
    raise TypeError(f"a log cannot hold {value!r:.80} ({type(value).__name__}); convert it to a number or text")


def parse_row(line: bytes) -> dict[str, Any]:
    """One line of a log as a dict; ValueError where it is not a JSON object."""
    row = json.loads(line, parse_constant=lambda _: None)
    if not isinstance(row, dict):
        raise ValueError(f"expected a JSON object, found {type(row).__name__}")
    return row


def _append(file: BinaryIO, rows: Iterable[Mapping[str, Any]]) -> None:
    lines = [json.dumps(jsonable(row), allow_nan=False).encode() + b"\n" for row in rows]
    file.write(b"".join(lines))
    file.flush()


def _open_for_append(path: Path) -> BinaryIO:
    """Open at the end of the last whole line: a torn one would spoil the next row too."""
    file = open(path, "a+b")  # noqa: SIM115  (the writer owns it)
    end = file.seek(0, os.SEEK_END)
    start = _start_of_last_line(file, end)
    file.seek(start)
    tail = file.read()
    if tail.strip():
        try:
            parse_row(tail)
            file.write(b"\n")
        except ValueError:
            file.truncate(start)
        file.flush()
    return file


def _start_of_last_line(file: BinaryIO, end: int, block: int = 65536) -> int:
    while end > 0:
        begin = max(0, end - block)
        file.seek(begin)
        newline = file.read(end - begin).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        end = begin
    return 0
