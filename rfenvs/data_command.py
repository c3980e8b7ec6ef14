"""`rfenvs data list | fetch | verify`: what data there are, bring them here, and make sure that they are whole."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from rfenvs.dataset_spec import DATA_DIR, HOSTS, DataFile, DatasetSpec, check_file
from rfenvs.datasets import TABLE, fetch, find, spec_of
from rfenvs.rows import DataError, count_rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `list`, `fetch` and `verify`."""
    commands = parser.add_subparsers(dest="data_command", metavar="list | fetch | verify", required=True)
    known = ", ".join(TABLE)
    commands.add_parser("list", help="every data set: repository, revision, licence, files, and what is here of it")
    bring = commands.add_parser("fetch", help="download the pinned revision, checked by size and SHA-256")
    bring.add_argument("id", help=known)
    bring.add_argument("files", nargs="*", help="some of its files, or `all`; default: the usual ones")
    bring.add_argument("--to", type=Path, help=f"a folder for {DATA_DIR}, instead of the cache")
    check = commands.add_parser("verify", help="check sizes, SHA-256 and row counts of what is here")
    check.add_argument("ids", nargs="*", metavar="id", help=f"default: all of {known}")


def run(options: argparse.Namespace) -> int:
    """Carry out one of them; returns the exit status.

    Raises:
        DataUnavailable: `fetch` could not bring a file.
        DataError: What it brought is not the pinned file.
        ValueError: There is no such data set or file.
    """
    if options.data_command == "list":
        for id in TABLE:
            print("\n".join(_listed(spec_of(id))))
        return 0
    if options.data_command == "fetch":
        for path in bring(spec_of(options.id), options.files, options.to):
            print(path, flush=True)
        return 0
    results = [_verified(spec_of(id)) for id in options.ids or TABLE]
    for lines, _ in results:
        print("\n".join(lines))
    return int(any(damaged for _, damaged in results))


def bring(spec: DatasetSpec, names: Sequence[str], to: Path | None) -> Iterator[Path]:
    """Fetch files one after the other; no names are the usual ones, `all` is everything."""
    everything = [entry.path for entry in spec.files]
    for name in everything if list(names) == ["all"] else names or spec.default or everything:
        yield fetch(spec, name, to=to and to / spec.id)


def _listed(spec: DatasetSpec) -> list[str]:
    revision = f"revision {spec.revision}" if spec.revision else "no revision pinned: local files only"
    lines = [
        f"{spec.id}: {spec.hub_id} on {HOSTS[spec.host]}, {revision}",
        f"  licence: {spec.licence}; splits: {spec.split_rule}",
    ]
    for entry in spec.files:
        rows = f"{entry.rows:>6,} rows" if entry.rows is not None else ""
        size = f"{entry.size / 1e6:>8,.1f} MB" if entry.size is not None else ""
        usual = "default" if entry.path in spec.default or not spec.default else ""
        here = "here" if find(spec, entry.path) else ""
        lines.append(f"  {entry.path:<72}{rows:>12}{size:>14}  {usual:<9}{here}".rstrip())
    return lines


def _verified(spec: DatasetSpec) -> tuple[list[str], bool]:
    """A line a file, and whether one of those that are here is damaged."""
    lines, damaged = [f"{spec.id}:"], False
    for entry in spec.files:
        path = find(spec, entry.path)
        if path is None:
            continue
        try:
            check_file(entry, path)
            what = _count(entry, path)
        except DataError as error:
            damaged, what = True, f"DAMAGED: {error}"
        lines.append(f"  {entry.path}: {what}")
    if len(lines) == 1:
        places = f"{DATA_DIR}={os.environ[DATA_DIR]}" if DATA_DIR in os.environ else f"{DATA_DIR} (not set)"
        lines = [f"{spec.id}: not here (looked in {places} and the cache); `rfenvs data fetch {spec.id}`"]
    return lines, damaged


def _count(entry: DataFile, path: Path) -> str:
    known = "SHA-256 ok" if entry.sha256 else "no SHA-256 is known"
    if entry.rows is None:
        return known
    rows = count_rows(path)
    if rows != entry.rows:
        raise DataError(f"{entry.path} has {rows:,} rows instead of {entry.rows:,}. Fetch it again.")
    return f"{known}, {rows:,} rows"
