"""Where data come from: paths, folders, the hub, the sample; and what is said when they are not what they should be."""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import os
import re
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import hub as hubs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.cli import main
from rfenvs import data_command, datasets, downloads
from rfenvs.datasets import DataFile, DatasetSpec, DataUnavailable, fetch, locate
from rfenvs.rows import DataError, count_rows, read_rows, row_at

COLUMNS = {"id": str, "count": int}
ROWS = [{"id": f"r{i}", "count": i, "when": "2024-01-02", "big": 10**25} for i in range(5)]
TEXT = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def values(path: Path):
    return [row.values for row in read_rows(path, COLUMNS)]


@pytest.fixture
def spec(tmp_path) -> DatasetSpec:
    sample = put(tmp_path / "packaged" / "sample.jsonl", TEXT.splitlines(keepends=True)[0])
    digest = hashlib.sha256(TEXT).hexdigest()
    entry = DataFile("part/rows.jsonl", len(ROWS), len(TEXT), digest)
    return DatasetSpec("toy", "someone/toy", hubs.COMMIT, (entry,), "CC0", COLUMNS, sample)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with hubs.serve(monkeypatch, tmp_path / "cache") as hub:
        hub.files["part/rows.jsonl"] = TEXT
        yield hub


NAMES = ["part/rows.jsonl"]

# Rows.


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("rows.jsonl", TEXT),
        ("rows.jsonl.gz", gzip.compress(TEXT)),
        ("rows.json", json.dumps(ROWS).encode()),
        ("rows.json", b"\xef\xbb\xbf \n" + TEXT),
    ],
)
def test_rows_keep_dates_as_strings_and_large_integers_whole(tmp_path, name, data):
    path = put(tmp_path / name, data)
    assert values(path) == ROWS
    assert count_rows(path) == len(ROWS)


def test_parquet_rows_come_with_the_named_columns(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pyarrow.table({"id": ["a", "b"], "count": [1, 2], "other": [None, None]})
    parquet.write_table(table, tmp_path / "rows.parquet")
    assert values(tmp_path / "rows.parquet") == [{"id": "a", "count": 1}, {"id": "b", "count": 2}]
    parquet.write_table(table.drop_columns("count"), tmp_path / "rows.parquet")
    with pytest.raises(DataError, match=r'rows\.parquet: there is no column "count"; columns here: id, other'):
        values(tmp_path / "rows.parquet")
    whole = (tmp_path / "rows.parquet").read_bytes()
    put(tmp_path / "cut.parquet", whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut\.parquet: not a whole parquet file"):
        values(tmp_path / "cut.parquet")


@given(st.lists(st.dictionaries(st.text(), st.none() | st.integers() | st.text() | st.booleans()), min_size=1))
def test_every_row_can_be_found_again_by_its_offset(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    put(path, "\n\n".join(lines).encode())
    found = list(read_rows(path, {}))
    assert [row.values for row in found] == rows
    assert [row_at(path, row.offset) for row in found] == rows
    assert [row.line for row in found] == list(range(1, 2 * len(rows), 2))


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 134303240\n"


@pytest.mark.parametrize(
    ("name", "data", "complaint"),
    [
        ("a.jsonl", POINTER, r"a\.jsonl is only a Git LFS pointer.*git lfs pull"),
        ("a.jsonl", TEXT[:-20], r"a\.jsonl is cut off: line 5, the last one, ends in the middle"),
        ("a.jsonl", TEXT + b"[1]\n", r"a\.jsonl, line 6: expected an object, got list"),
        ("a.jsonl", b"{oops}\n" + TEXT, r"a\.jsonl, line 1: not JSON"),
        ("a.jsonl", TEXT + b'{"id": "\xff"}\n', r"a\.jsonl, line 6: not UTF-8 at byte 8"),
        ("a.jsonl", b'{"id": "x"}\n', r'a\.jsonl, line 1: there is no column "count"; columns here: id'),
        ("a.jsonl", b'{"id": 7, "count": 7}\n', r'a\.jsonl, line 1: column "id" must be str, got int'),
        ("a.jsonl", b"\n \n", r"a\.jsonl holds no rows"),
        ("a.jsonl.gz", gzip.compress(TEXT)[:-20], r"a\.jsonl\.gz is damaged or cut off after line \d"),
        ("a.jsonl.gz", TEXT, r"a\.jsonl\.gz is damaged or cut off after line 0"),
        ("a.json", b"[{}, ", r"a\.json: not JSON, or cut off"),
        ("a.json", b"7", r"a\.json: expected a list of objects, got int"),
        ("a.json", TEXT + b"[1]\n", r"a\.json, line 6: expected an object, got list"),
        ("a.csv", b"id,count\n", r"a\.csv: unknown kind of file; use \.jsonl"),
    ],
)
def test_a_bad_file_is_one_clear_error(tmp_path, name, data, complaint):
    with pytest.raises(DataError, match=complaint):
        values(put(tmp_path / name, data))


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path):
    assert values(put(tmp_path / "a.jsonl", b"\xef\xbb\xbf" + TEXT)) == ROWS


def test_a_file_that_changed_under_an_offset_is_noticed(tmp_path):
    path = put(tmp_path / "a.jsonl", TEXT)
    offset = list(read_rows(path, COLUMNS))[3].offset
    put(path, TEXT[10:])
    with pytest.raises(DataError, match="has changed since it was loaded"):
        row_at(path, offset)


# Local data and the order of places.


def test_a_path_wins_over_everything(tmp_path, spec, hub, monkeypatch):
    put(tmp_path / "root" / "toy" / "part" / "rows.jsonl", TEXT)
    monkeypatch.setenv("RFENVS_DATA_DIR", str(tmp_path / "root"))
    mine = put(tmp_path / "mine.jsonl", TEXT + b"\n")
    located = locate(spec, str(mine), NAMES)
    assert (located.paths, located.source, located.verified) == ((mine,), "file", False)
    assert located.revision.startswith("file:")
    assert not hub.requests


def test_the_local_folder_wins_over_the_hub(tmp_path, spec, hub, monkeypatch):
    path = put(tmp_path / "root" / "toy" / "part" / "rows.jsonl", TEXT)
    monkeypatch.setenv("RFENVS_DATA_DIR", str(tmp_path / "root"))
    located = locate(spec, None, NAMES)
    assert (located.paths, located.source) == ((path,), "file")
    assert not hub.requests


def test_local_bytes_of_the_pinned_revision_are_known_as_such(tmp_path, spec):
    located = locate(spec, put(tmp_path / "renamed.jsonl", TEXT), NAMES)
    assert (located.revision, located.verified) == (spec.revision, True)


def test_a_local_folder_must_be_complete(tmp_path, spec, monkeypatch):
    put(tmp_path / "root" / "toy" / "other.jsonl", TEXT)
    monkeypatch.setenv("RFENVS_DATA_DIR", str(tmp_path / "root"))
    with pytest.raises(FileNotFoundError, match=r"RFENVS_DATA_DIR=.*lacks part/rows\.jsonl; it holds other\.jsonl"):
        locate(spec, None, NAMES)


def test_a_path_that_is_not_there_says_what_else_works(tmp_path, spec):
    with pytest.raises(FileNotFoundError, match=r'no such file or folder\. Or use data="hub" or data="sample"'):
        locate(spec, tmp_path / "nowhere.jsonl", NAMES)


def test_the_sample_is_never_taken_for_the_data_set(spec):
    located = locate(spec, "sample", NAMES)
    assert (located.source, located.verified) == ("sample", False)
    assert located.revision.startswith("sample:")


# The hub.


@pytest.mark.parametrize("data", ["hub", None])
def test_the_pinned_revision_is_downloaded_once(spec, hub, data):
    located = locate(spec, data, NAMES)
    assert (located.source, located.revision, located.verified) == ("hub", hubs.COMMIT, True)
    assert located.paths[0].read_bytes() == TEXT
    asked = f"/datasets/someone/toy/resolve/{hubs.COMMIT}/part/rows.jsonl"
    assert {path for _, path in hub.requests} == {asked}
    hub.requests.clear()
    assert locate(spec, data, NAMES) == located
    assert not hub.requests


def test_offline_the_cache_is_enough(spec, hub, monkeypatch):
    located = locate(spec, "hub", NAMES)
    hub.status = 500
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert locate(spec, None, NAMES) == located


def test_without_a_cache_offline_names_everything_one_needs(spec, hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataUnavailable) as caught:
        locate(spec, "hub", NAMES)
    said = str(caught.value)
    for needed in (
        "someone/toy",
        hubs.COMMIT,
        "part/rows.jsonl",
        "rfenvs data fetch toy part/rows.jsonl",
        "RFENVS_DATA_DIR",
        "HF_HUB_OFFLINE is set",
        "data=<path of the file>",
    ):
        assert needed in said
    assert not hub.requests


def test_a_hub_that_fails_leads_to_the_sample_with_one_warning(spec, hub, caplog):
    hub.status = 404
    with caplog.at_level(logging.INFO):
        assert [locate(spec, None, NAMES).source for _ in range(3)] == ["sample"] * 3
    (record,) = [r for r in caplog.records if r.name == "rfenvs.datasets"]
    assert record.levelno == logging.WARNING
    assert "Using the packaged sample of 1 problems in place of toy" in record.getMessage()
    assert len(hub.requests) == 1


def test_a_hub_that_fails_is_an_error_where_the_hub_was_asked_for(spec, hub):
    hub.status = 404
    with pytest.raises(DataUnavailable, match="404"):
        locate(spec, "hub", NAMES)


@pytest.mark.parametrize("silent", [False, True], ids=["refused", "no answer"])
def test_an_unreachable_hub_fails_within_seconds(spec, monkeypatch, tmp_path, silent):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if silent:
            listener.listen()
        hubs.point(monkeypatch, f"http://127.0.0.1:{listener.getsockname()[1]}", tmp_path / "cache")
        monkeypatch.setattr(downloads, "_PATIENCE_S", 1.0)
        start = time.monotonic()
        with pytest.raises(DataUnavailable, match="the Hugging Face hub failed with"):
            locate(spec, "hub", NAMES)
        assert time.monotonic() - start < 4


def test_other_bytes_than_the_pinned_ones_are_refused_and_not_kept(spec, hub):
    hub.files["part/rows.jsonl"] = TEXT.replace(b"r1", b"xx")
    for _ in range(2):
        with pytest.raises(DataError, match=r"has the SHA-256 .* instead of .*Fetch it again"):
            locate(spec, None, NAMES)
    hub.files["part/rows.jsonl"] = TEXT
    assert locate(spec, None, NAMES).verified


def test_a_file_cut_off_in_the_cache_is_noticed(spec, hub):
    (path,) = locate(spec, "hub", NAMES).paths
    path.resolve().write_bytes(TEXT[:-30])
    with pytest.raises(
        DataError, match=rf"part/rows\.jsonl has {len(TEXT) - 30} bytes instead of {len(TEXT)}: cut off"
    ):
        locate(spec, "hub", NAMES)
    assert locate(spec, "hub", NAMES).verified


def test_without_the_optional_package_the_message_says_what_to_install(spec, hub, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DataUnavailable, match=r'pip install "rfenvs\[hub\]"'):
        locate(spec, "hub", NAMES)
    assert locate(spec, None, NAMES).source == "sample"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_is_named(spec, hub, monkeypatch, tmp_path):
    from huggingface_hub import constants

    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small], capture_output=True)
    if mounted.returncode:
        pytest.skip("no permission to mount a tmpfs")
    try:
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(small))
        hub.files["part/rows.jsonl"] = b"x" * (1 << 20)
        with pytest.raises(DataUnavailable, match=r"No space left on device|Not enough free disk space"):
            locate(spec, "hub", NAMES)
        assert locate(spec, None, NAMES).source == "sample"
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_broken_connection_does_not_leave_half_a_file(spec, hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None, raising=False)
    hub.cut = 50
    with pytest.raises(DataUnavailable):
        locate(spec, "hub", NAMES)
    hub.cut = None
    assert locate(spec, "hub", NAMES).paths[0].read_bytes() == TEXT


# GitHub.


@pytest.fixture
def raw(spec) -> DatasetSpec:
    """The same data set, in a repository on GitHub."""
    return replace(spec, host="github")


@pytest.mark.parametrize("data", ["hub", None])
def test_github_serves_raw_files_of_a_commit(raw, hub, data):
    located = locate(raw, data, NAMES)
    assert (located.source, located.revision, located.verified) == ("hub", hubs.COMMIT, True)
    assert located.paths[0].read_bytes() == TEXT
    assert {path for _, path in hub.requests} == {f"/someone/toy/{hubs.COMMIT}/part/rows.jsonl"}
    hub.requests.clear()
    assert locate(raw, data, NAMES) == located
    assert not hub.requests


def test_github_needs_no_optional_package(raw, hub, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert locate(raw, "hub", NAMES).verified


def test_github_that_fails_says_so_and_leads_to_the_sample(raw, hub):
    hub.status = 404
    with pytest.raises(DataUnavailable, match=r"GitHub failed with HTTPError.*404.*someone/toy on GitHub"):
        locate(raw, "hub", NAMES)
    assert locate(raw, None, NAMES).source == "sample"


def test_github_cut_off_leaves_nothing_behind(raw, hub):
    hub.cut = 50
    with pytest.raises(DataUnavailable, match=r"IncompleteRead|the connection broke after 50"):
        locate(raw, "hub", NAMES)
    assert not [path for path in downloads.cache_dir().rglob("*") if path.is_file()]
    hub.cut = None
    assert locate(raw, "hub", NAMES).verified


def test_github_with_other_bytes_is_refused_and_not_kept(raw, hub):
    hub.files["part/rows.jsonl"] = TEXT.replace(b"r1", b"xx")
    with pytest.raises(DataError, match=r"has the SHA-256 .* instead of .*Fetch it again"):
        locate(raw, "hub", NAMES)
    hub.files["part/rows.jsonl"] = TEXT
    assert locate(raw, "hub", NAMES).verified


def test_a_host_that_does_not_answer_is_asked_once_for_all_data_sets(raw, monkeypatch, tmp_path):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        hubs.point(monkeypatch, f"http://127.0.0.1:{listener.getsockname()[1]}", tmp_path / "cache")
        monkeypatch.setattr(downloads, "_PATIENCE_S", 1.0)
        start = time.monotonic()
        for name in ("toy", "second", "third"):
            assert locate(replace(raw, id=name), None, NAMES).source == "sample"
        assert time.monotonic() - start < 1.9, "asked three times it takes 3 s"


def test_nothing_is_fetched_of_what_is_not_pinned(raw, hub, tmp_path):
    loose = replace(raw, revision="")
    with pytest.raises(DataUnavailable, match=r"its revision is not known.*Set the environment variable") as caught:
        locate(loose, "hub", NAMES)
    assert "rfenvs data fetch" not in str(caught.value)
    assert locate(loose, None, NAMES).source == "sample"
    assert not hub.requests
    assert locate(loose, put(tmp_path / "mine.jsonl", TEXT), NAMES).source == "file"


@pytest.mark.parametrize("place", ["a/b/rows.jsonl", "b/rows.jsonl", "rows.jsonl"])
def test_a_folder_may_begin_anywhere_along_the_path(spec, tmp_path, place):
    deep = replace(spec, files=(replace(spec.files[0], path="a/b/rows.jsonl"),))
    path = put(tmp_path / "folder" / place, TEXT)
    assert locate(deep, tmp_path / "folder", ["a/b/rows.jsonl"]).paths == (path,)


# The command.


@pytest.fixture
def toy(spec, monkeypatch) -> DatasetSpec:
    """The only data set that `rfenvs data` knows."""
    monkeypatch.setattr(data_command, "TABLE", {"toy": ""})
    monkeypatch.setattr(data_command, "spec_of", lambda id: spec)
    return spec


def test_the_command_that_the_error_names_works(toy, hub, monkeypatch, tmp_path, capsys):
    assert main(["data", "fetch", "toy", "part/rows.jsonl"]) == 0
    assert Path(capsys.readouterr().out.strip()).read_bytes() == TEXT
    assert main(["data", "fetch", "toy", "--to", str(tmp_path / "root")]) == 0
    hub.status = 500
    monkeypatch.setenv("RFENVS_DATA_DIR", str(tmp_path / "root"))
    located = locate(toy, None, NAMES)
    assert (located.source, located.verified) == ("file", True)
    assert located.paths == (tmp_path / "root" / "toy" / "part" / "rows.jsonl",)


def test_the_command_fails_with_one_line(toy, hub, capsys):
    hub.status = 404
    assert main(["data", "fetch", "toy"]) == 2
    assert "The data set toy is not available" in capsys.readouterr().err


def test_list_says_what_is_here(toy, hub, capsys):
    assert main(["data", "list"]) == 0
    said = capsys.readouterr().out
    assert f"toy: someone/toy on the Hugging Face hub, revision {hubs.COMMIT}" in said
    assert "licence: CC0" in said
    assert not said.rstrip().endswith("here")
    main(["data", "fetch", "toy"])
    main(["data", "list"])
    assert capsys.readouterr().out.rstrip().endswith("here")


def test_verify_counts_rows_and_finds_damage(toy, hub, monkeypatch, tmp_path, capsys):
    assert main(["data", "verify"]) == 0
    assert "toy: not here" in capsys.readouterr().out
    main(["data", "fetch", "toy"])
    assert main(["data", "verify", "toy"]) == 0
    assert "part/rows.jsonl: SHA-256 ok, 5 rows" in capsys.readouterr().out
    monkeypatch.setenv("RFENVS_DATA_DIR", str(tmp_path / "root"))
    put(tmp_path / "root" / "toy" / "part" / "rows.jsonl", TEXT[:-1] + b" ")
    assert main(["data", "verify"]) == 1
    assert "DAMAGED" in capsys.readouterr().out


def test_the_row_count_is_checked_where_no_hash_is_known(toy, hub, monkeypatch, capsys):
    short = replace(toy, files=(DataFile("part/rows.jsonl", rows=6),))
    monkeypatch.setattr(data_command, "spec_of", lambda id: short)
    main(["data", "fetch", "toy"])
    assert main(["data", "verify"]) == 1
    assert "part/rows.jsonl has 5 rows instead of 6" in capsys.readouterr().out


def test_the_command_as_a_process():
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "error", "-m", "rfenvs", "data", *arguments]
        return subprocess.run(command, capture_output=True, text=True)

    listed = run("list")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert (
        "livecodebench: livecodebench/code_generation_lite on the Hugging Face hub, revision 0fe84c39" in listed.stdout
    )
    unknown = run("fetch", "nothing")
    assert unknown.returncode == 2
    assert unknown.stderr.startswith("error: There is no data set 'nothing': use livecodebench, humaneval")


def test_every_listed_data_set_is_pinned():
    for id in datasets.TABLE:
        spec = datasets.spec_of(id)
        assert spec.id == id
        assert re.fullmatch("[0-9a-f]{40}", spec.revision)
        assert all(re.fullmatch("[0-9a-f]{64}", entry.sha256 or "0" * 64) for entry in spec.files)
        assert list(read_rows(spec.sample, spec.columns))
        assert all(spec.file(name) for name in spec.default)


def test_nothing_of_the_hub_is_imported_before_it_is_needed():
    code = (
        "import sys, rfenvs.datasets, rfenvs.envs.livecodebench_data as d; d.load('sample'); "
        "print([m for m in ('huggingface_hub', 'pyarrow', 'datasets') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_a_file_of_another_name_is_refused(spec):
    with pytest.raises(ValueError, match=r"toy has no file 'x\.jsonl': use part/rows\.jsonl"):
        fetch(replace(spec), "x.jsonl")
