"""Games from disk: the official folders, one official file, or rows of a JSON Lines file.

| what | example |
|---|---|
| a folder in the official layout | `json_2.1.1/`, one of its splits, or the folder above it |
| one official game | `json_2.1.1/train/pick_.../trial_.../game.tw-pddl` |
| rows, one a game | `train.jsonl`, `.jsonl.gz` or `.jsonl.xz`, with the columns of `COLUMNS` |

Reading makes an index; a game is parsed when it is asked for, and the last 512 are kept, some 0.1 MB each when played.
"""

from __future__ import annotations

import functools
import gzip
import json
import lzma
import re
import zlib
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import IO, Any, Final, cast, overload

from rfenvs.envs.alfworld.game import TASK_TYPES, Game
from rfenvs.envs.alfworld.pddl import parse_problem, write_problem
from rfenvs.rows import Columns, DataError, check_row

SPLITS: Final = ("train", "valid_seen", "valid_unseen", "valid_train")
"""Folders of the official layout that hold games."""

GAME_FILE: Final = "game.tw-pddl"

COLUMNS: Final[Columns] = {
    "split": str,
    "task_dir": str,
    "trial": str,
    "task_type": str,
    "task": str,
    "pddl_problem": str,
}
"""Columns of a row; `solvable` may stand beside them, and a game where it is false is left out."""

_SUFFIXES: Final = (".jsonl", ".jsonl.gz", ".jsonl.xz")
_TASK: Final = re.compile(r"Your task is to: (.*?)\"?$", re.MULTILINE)
_SOLVABLE: Final = re.compile(rb'"solvable":\s*true')


class GameRow:
    """One game of the index: enough to choose by, without parsing it."""

    __slots__ = ("_read", "id", "split", "task_type")

    def __init__(self, id: str, split: str, task_type: str, read: Callable[[], Game]) -> None:
        self.id = id
        """`<task_dir>/<trial>`."""
        self.split = split
        self.task_type = task_type
        self._read = read

    def game(self) -> Game:
        """The game itself; parsed where it is not among the last ones.

        Raises:
            DataError: It cannot be parsed; the message names the file and the row.
        """
        return _parsed(self)


@functools.lru_cache(maxsize=512)
def _parsed(row: GameRow) -> Game:
    return row._read()


class Games(Sequence[Game]):
    """Games in a fixed order, parsed when asked for; `rows` tells what they are without parsing any."""

    def __init__(self, rows: Sequence[GameRow]) -> None:
        self.rows = tuple(rows)

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Game: ...
    @overload
    def __getitem__(self, index: slice) -> Games: ...
    def __getitem__(self, index: int | slice) -> Game | Games:
        """One game, or some of them, still unparsed."""
        return Games(self.rows[index]) if isinstance(index, slice) else self.rows[index].game()


def read_games(path: str | Path, split: str | None = None, task_types: Collection[str] | None = None) -> Games:
    """The games of a folder or file, those of one split and of some task types where asked.

    Folders are read as the official environment does it: a path that mentions "movable" or "Sliced" and a game that is
    not marked solvable are left out. Games of a folder come in the order of their paths, rows in that of the file.
    The index of a file is shared by everyone who reads it, for as long as the file stays the same.

    Raises:
        FileNotFoundError: Nothing is there.
        DataError: It holds no such games, or a row is not a game; the message names file and row, and says what to do.
    """
    path = Path(path)
    for task_type in task_types or ():
        if task_type not in TASK_TYPES:
            raise ValueError(f"task_types={task_type!r}: use some of {', '.join(TASK_TYPES)}.")
    if path.is_dir():
        rows: Sequence[GameRow] = _folder(path)
    elif not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file or folder of ALFWorld games.")
    elif path.name == GAME_FILE or path.name.endswith(".tw-pddl"):
        rows = [_official(path)]
    else:
        stat = path.stat()
        rows = _file(path.resolve(), stat.st_mtime_ns, stat.st_size)
    kept = [
        row
        for row in rows
        if (split is None or row.split == split) and (task_types is None or row.task_type in task_types)
    ]
    if not kept:
        has = ", ".join(sorted({row.split or "(no split)" for row in rows}))
        raise DataError(
            f"{path} holds no solvable game of split={split!r} and task_types={task_types!r}; it has {len(rows)} games"
            + (f" of {has}." if has else f": give a folder with {GAME_FILE} files in it, or a .jsonl file.")
        )
    return Games(kept)


def to_row(game: Game) -> dict[str, Any]:
    """The game as a row that `read_games` reads back."""
    task_dir, _, trial = game.id.rpartition("/")
    return {
        "split": game.split,
        "task_dir": task_dir,
        "trial": trial,
        "task_type": game.task_type,
        "solvable": True,
        "task": f"{game.goal_text}.",
        "pddl_problem": write_problem(game),
    }


@functools.lru_cache(maxsize=8)
def _file(path: Path, mtime_ns: int, size: int) -> tuple[GameRow, ...]:
    """The index of a JSON Lines file; time and size are there to notice a change."""
    if not path.name.endswith(_SUFFIXES):
        raise DataError(f"{path.name}: unknown kind of file for games; use {', '.join(_SUFFIXES)} or {GAME_FILE}.")
    rows = []
    try:
        with _open(path) as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                values = _values(path, number, line)
                check_row(path.name, number, values, COLUMNS)
                if not values.get("solvable", True):
                    continue
                id = f"{values['task_dir']}/{values['trial']}"
                # A problem is some 80 kB of text that packs to a tenth.
                read = functools.partial(_unpack, path, number, zlib.compress(line, 1))
                rows.append(GameRow(id, values["split"], values["task_type"], read))
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path.name} cannot be unpacked ({error}): fetch it again.") from error
    return tuple(rows)


def _open(path: Path) -> IO[bytes]:
    if path.name.endswith(".xz"):
        return lzma.open(path, "rb")
    return cast(IO[bytes], gzip.open(path, "rb")) if path.name.endswith(".gz") else path.open("rb")


def _unpack(path: Path, number: int, packed: bytes) -> Game:
    values = _values(path, number, zlib.decompress(packed))
    id = f"{values['task_dir']}/{values['trial']}"
    return _game(f"{path.name}, line {number}", values["pddl_problem"], id, values["split"], values["task"])


def _values(path: Path, number: int, line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise DataError(f"{path.name}, line {number}: not a JSON object ({error}); fetch the file again.") from error


def _folder(folder: Path) -> list[GameRow]:
    root = folder / "json_2.1.1" if (folder / "json_2.1.1").is_dir() else folder
    rows = []
    for path in sorted(root.rglob(GAME_FILE)):
        inside = str(path.parent.relative_to(root))
        if "movable" in inside or "Sliced" in inside or not _solvable(path):
            continue
        rows.append(_official(path))
    return rows


def _solvable(path: Path) -> bool:
    # The flag stands near the end; the whole file is read only where it does not.
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        if _SOLVABLE.search(file.read()):
            return True
    return bool(_SOLVABLE.search(path.read_bytes()))


def _official(path: Path) -> GameRow:
    *_, split, task_dir, trial, _ = ("", "", "", *path.resolve().parts)
    task_type = task_dir.partition("-")[0]
    read = functools.partial(_read_official, path, f"{task_dir}/{trial}", split if split in SPLITS else "")
    if task_type not in TASK_TYPES:
        task_type = read().task_type
    return GameRow(f"{task_dir}/{trial}", split if split in SPLITS else "", task_type, read)


def _read_official(path: Path, id: str, split: str) -> Game:
    try:
        data = json.loads(path.read_bytes())
        problem, grammar = data["pddl_problem"], data["grammar"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: not a game of ALFWorld ({error!r}); it should be a JSON object with pddl_problem and grammar, as "
            "`alfworld-download` leaves it."
        ) from error
    task = _TASK.search(grammar)
    if task is None:
        raise DataError(f'{path}: its grammar has no line "Your task is to: ..."; fetch it again.')
    return _game(str(path), problem, id, split, task[1])


def _game(where: str, problem: str, id: str, split: str, task: str) -> Game:
    try:
        return parse_problem(problem, id=id, split=split, goal_text=task.removesuffix("."))
    except ValueError as error:
        raise DataError(f"{where}: {error}. Fetch it again, or leave this game out.") from error
