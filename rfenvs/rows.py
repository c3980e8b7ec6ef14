"""Rows of a data file, one at a time: `.jsonl`, `.jsonl.gz`, `.json` or `.parquet`, checked against named columns.

A `.json` file holds a list of objects, or one object a line, as public data sets have it under that name.

JSON is read with `json` alone, so that dates stay strings and large integers stay integers.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

Columns = Mapping[str, type | tuple[type, ...]]
"""The columns a row must have, with their types; others are passed through unchecked."""

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_BOM = b"\xef\xbb\xbf"
SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".parquet")
"""Files that can be read."""


class DataError(ValueError):
    """A data file is there, but is not what it should be; the message names file, line and column."""


class Row(NamedTuple):
    """One row and where it stands."""

    line: int
    """Line of the file, or number of the row, from 1."""
    offset: int | None
    """Bytes before the line, in plain `.jsonl` files; None where a row cannot be found again by seeking."""
    values: dict[str, Any]


def read_rows(path: Path, columns: Columns) -> Iterator[Row]:
    """Read a file row by row.

    Raises:
        DataError: Cut off, a Git LFS pointer, not in the format of its name, or a row without a column or with
            another type in it.
        ImportError: A parquet file, and no pyarrow; the message says what to install.
    """
    with path.open("rb") as file:
        if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise DataError(
                f"{path.name} is only a Git LFS pointer, not the data: run `git lfs pull` in its repository, or "
                "download the file itself."
            )
    if path.name.endswith(".parquet"):
        rows = _parquet(path, columns)
    elif path.name.endswith(".json"):
        rows = _jsonl(path) if _starts_with_object(path) else _json(path)
    elif path.name.endswith((".jsonl", ".jsonl.gz")):
        rows = _jsonl(path)
    else:
        raise DataError(f"{path.name}: unknown kind of file; use {', '.join(SUFFIXES)}.")
    empty = True
    for row in rows:
        empty = False
        check_row(path.name, row.line, row.values, columns)
        yield row
    if empty:
        raise DataError(f"{path.name} holds no rows.")


def count_rows(path: Path) -> int:
    """Number of rows of a file.

    Raises:
        DataError, ImportError: As for `read_rows`.
    """
    if path.name.endswith(".parquet"):
        return _parquet_rows(path)
    return sum(1 for _ in read_rows(path, {}))


def row_at(path: Path, offset: int) -> dict[str, Any]:
    """Read one row of a plain `.jsonl` file again, from the `Row.offset` it had.

    Raises:
        DataError: The file has changed since.
    """
    with path.open("rb") as file:
        file.seek(offset)
        line = file.readline()
    try:
        values = json.loads(line)
    except ValueError as error:
        raise DataError(f"{path.name} has changed since it was loaded: no row at byte {offset} any more.") from error
    if not isinstance(values, dict):
        raise DataError(f"{path.name} has changed since it was loaded: no row at byte {offset} any more.")
    return values


def check_row(name: str, line: int, values: Any, columns: Columns) -> None:
    """Compare one row with its columns.

    Raises:
        DataError: The row is no object, a column is missing, or a value has another type.
    """
    if not isinstance(values, dict):
        raise DataError(f"{name}, line {line}: expected an object, got {type(values).__name__}.")
    for column, types in columns.items():
        if column not in values:
            have = ", ".join(map(str, values)) or "none"
            raise DataError(f'{name}, line {line}: there is no column "{column}"; columns here: {have}.')
        if not isinstance(values[column], types):
            wanted = " or ".join(t.__name__ for t in (types if isinstance(types, tuple) else (types,)))
            found = type(values[column]).__name__
            raise DataError(f'{name}, line {line}: column "{column}" must be {wanted}, got {found}.')


def _jsonl(path: Path) -> Iterator[Row]:
    packed = path.name.endswith(".gz")
    offset = 0
    number = 0
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            for number, line in enumerate(file, 1):
                text = line.removeprefix(_BOM) if number == 1 else line
                if text.strip():
                    yield Row(number, None if packed else offset, _object(path.name, number, text))
                offset += len(line)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path.name} is damaged or cut off after line {number} ({error}): download it again."
        ) from error


def _object(name: str, number: int, line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(f"{name}, line {number}: not UTF-8 at byte {error.start} of the line.") from error
    except json.JSONDecodeError as error:
        if not line.endswith(b"\n"):
            raise DataError(
                f"{name} is cut off: line {number}, the last one, ends in the middle ({error}). Download it again."
            ) from error
        raise DataError(f"{name}, line {number}: not JSON ({error}).") from error


def _starts_with_object(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(64).removeprefix(_BOM).lstrip().startswith(b"{")


def _json(path: Path) -> Iterator[Row]:
    try:
        rows = json.loads(path.read_bytes().removeprefix(_BOM).decode("utf-8"))
    except ValueError as error:
        raise DataError(f"{path.name}: not JSON, or cut off ({error}).") from error
    if not isinstance(rows, list):
        raise DataError(f"{path.name}: expected a list of objects, got {type(rows).__name__}.")
    for number, values in enumerate(rows, 1):
        yield Row(number, None, values)


def _parquet_rows(path: Path) -> int:
    pyarrow, parquet = _pyarrow(path)
    try:
        with parquet.ParquetFile(path) as file:
            return int(file.metadata.num_rows)
    except (pyarrow.ArrowException, OSError) as error:
        raise _not_whole(path, error) from error


def _parquet(path: Path, columns: Columns) -> Iterator[Row]:
    pyarrow, parquet = _pyarrow(path)
    try:
        with parquet.ParquetFile(path) as file:
            present = file.schema_arrow.names
            wanted = [name for name in columns if name in present]
            if len(wanted) < len(columns):
                missing = next(name for name in columns if name not in present)
                raise DataError(f'{path.name}: there is no column "{missing}"; columns here: {", ".join(present)}.')
            number = 0
            for batch in file.iter_batches(batch_size=16, columns=wanted):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(number, None, values)
    except (pyarrow.ArrowException, OSError) as error:
        raise _not_whole(path, error) from error


def _pyarrow(path: Path) -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError(f'{path.name}: parquet files need pyarrow: pip install "rfenvs[hub]".') from error
    return pyarrow, parquet


def _not_whole(path: Path, error: Exception) -> DataError:
    return DataError(f"{path.name}: not a whole parquet file ({error}): download it again.")
