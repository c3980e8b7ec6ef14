"""`GorillaFileSystem`: a tree of folders and text files, with a current folder and some shell commands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from rfenvs.envs.bfcl_apis.base import SimulatedApi, ToolError, need, tool

_FORBIDDEN = frozenset('|/\\?%*:"><')
_NO_NAMES = ("", ".", "..")
_DEEPEST = 64
_MOST_ENTRIES = 4096
"""Bounds of a tree, so that no sequence of copies exhausts memory or the stack."""


@dataclass
class Folder:
    """A folder; a file is the text in it. Two folders are equal where names and contents are."""

    name: str
    parent: Folder | None = field(default=None, compare=False, repr=False)
    contents: dict[str, Folder | str] = field(default_factory=dict)

    def copy(self, name: str, parent: Folder) -> Folder:
        """Copy the folder with all that is in it."""
        twin = Folder(name, parent)
        for key, entry in self.contents.items():
            twin.contents[key] = entry.copy(key, twin) if isinstance(entry, Folder) else entry
        return twin

    def walk(self, path: str = "") -> Iterator[tuple[str, str, Folder | str, int]]:
        """Every entry below: path, name, the entry, and how many folders deep it lies."""
        for name, entry in self.contents.items():
            here = f"{path}/{name}"
            yield here, name, entry, 1
            if isinstance(entry, Folder):
                for *rest, depth in entry.walk(here):
                    yield *rest, depth + 1  # type: ignore[misc]

    def ancestors(self) -> Iterator[Folder]:
        """The folder, its parent, and so on up to the root."""
        here: Folder | None = self
        while here is not None:
            yield here
            here = here.parent


def _check_name(name: str, message: str) -> None:
    need(name not in _NO_NAMES and _FORBIDDEN.isdisjoint(name), f"{message}: Invalid character")


@dataclass(kw_only=True)
class GorillaFileSystem(SimulatedApi):
    """Commands take the name of an entry of the current folder, never a path; `find` alone follows paths.

    The comparison of states covers the tree, and not which folder is the current one.
    """

    root: Folder = field(default_factory=lambda: Folder(""))
    current: Folder = field(init=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.current = self.root

    @classmethod
    def load(cls, scenario: Mapping[str, Any]) -> Self:
        """Start from `{"root": {name: {"contents": {...}}}}`; without it the tree is empty."""
        roots = scenario.get("root")
        if not roots:
            return cls()
        name, tree = next(iter(roots.items()))
        return cls(root=_load(name, None, tree["contents"]))

    def _file(self, command: str, name: str) -> str:
        entry = self.current.contents.get(name)
        if not isinstance(entry, str):
            raise ToolError(f"{command}: {name}: No such file or directory")
        return entry

    def _find_folder(self, path: str, message: str) -> Folder:
        here: Folder | str | None = self.root if path.startswith("/") else self.current
        for name in [] if path == "/" else path.strip("/").split("/"):
            if name != ".":
                here = here.contents.get(name) if isinstance(here, Folder) else None
        if not isinstance(here, Folder):
            raise ToolError(f"{message}: '{path}': No such file or directory")
        return here

    def _make_room(self, command: str, place: Folder, entry: Folder | str) -> None:
        """Refuse an entry that would make the tree too deep or too large."""
        below = [depth for *_, depth in entry.walk()] if isinstance(entry, Folder) else []
        deepest = sum(1 for _ in place.ancestors()) + 1 + max(below, default=0)
        need(deepest <= _DEEPEST, f"{command}: File name too long")
        total = sum(1 for _ in self.root.walk()) + 1 + len(below)
        need(total <= _MOST_ENTRIES, f"{command}: No space left on device")

    @tool
    def pwd(self) -> dict[str, Any]:
        """Path of the current folder."""
        names = [folder.name for folder in self.current.ancestors() if folder.name]
        return {"current_working_directory": "/" + "/".join(reversed(names))}

    @tool
    def ls(self, a: bool = False) -> dict[str, Any]:
        """Names in the current folder, with `a` also those that start with a dot."""
        return {"current_directory_content": [n for n in self.current.contents if a or not n.startswith(".")]}

    @tool
    def cd(self, folder: str) -> dict[str, Any]:
        """Go to a folder in the current one, to the parent `..` or to the root `/`; one level at a time."""
        folder = folder.rstrip("/") or "/"
        need(
            folder == "/" or "/" not in folder,
            f"cd: {folder}: Unsupported path. Only one folder level at a time is supported.",
        )
        if folder == "..":
            if self.current.parent is None:
                raise ToolError("Current directory is already the root. Cannot go back.")
            self.current = self.current.parent
            return {}
        self.current = self._find_folder(folder, "cd")
        return {"current_working_directory": self.current.name}

    @tool
    def mkdir(self, dir_name: str) -> None:
        """Make a folder in the current one."""
        failed = f"mkdir: cannot create directory '{dir_name}'"
        _check_name(dir_name, failed)
        need(dir_name not in self.current.contents, f"{failed}: File exists")
        self._make_room(failed, self.current, Folder(dir_name))
        self.current.contents[dir_name] = Folder(dir_name, self.current)

    @tool
    def touch(self, file_name: str) -> None:
        """Make an empty file in the current folder."""
        failed = f"touch: cannot touch '{file_name}'"
        _check_name(file_name, failed)
        need(file_name not in self.current.contents, f"{failed}: File exists")
        self._make_room(failed, self.current, "")
        self.current.contents[file_name] = ""

    @tool
    def echo(self, content: str, file_name: str | None = None) -> dict[str, Any] | None:
        """Replace the content of a file in the current folder, or show the text where no file is named."""
        if not file_name:
            return {"terminal_output": content}
        failed = f"echo: cannot write to '{file_name}'"
        _check_name(file_name, failed)
        need(file_name in self.current.contents, f"{failed}: No such file")
        need(isinstance(self.current.contents[file_name], str), f"{failed}: Is a directory")
        self.current.contents[file_name] = content
        return None

    @tool
    def cat(self, file_name: str) -> dict[str, Any]:
        """The content of a file in the current folder."""
        _check_name(file_name, f"cat: '{file_name}'")
        entry = self.current.contents.get(file_name)
        need(entry is not None, f"cat: '{file_name}': No such file or directory")
        need(isinstance(entry, str), f"cat: '{file_name}': Is a directory")
        return {"file_content": entry}

    @tool
    def find(self, path: str = ".", name: str | None = None) -> dict[str, Any]:
        """Paths below a folder, all or those whose last name contains `name`."""
        top = self._find_folder(path, "find")
        return {"matches": [p for p, n, *_ in top.walk(path.rstrip("/")) if name is None or name in n]}

    @tool
    def wc(self, file_name: str, mode: str = "l") -> dict[str, Any]:
        """Count the lines (`l`), words (`w`) or characters (`c`) of a file in the current folder."""
        need(mode in ("l", "w", "c"), f"wc: invalid mode '{mode}'")
        text = self._file("wc", file_name)
        if mode == "l":
            return {"count": len(text.splitlines()), "type": "lines"}
        if mode == "w":
            return {"count": len(text.split()), "type": "words"}
        return {"count": len(text), "type": "characters"}

    @tool
    def sort(self, file_name: str) -> dict[str, Any]:
        """The lines of a file in the current folder, sorted; the file stays as it is."""
        return {"sorted_content": "\n".join(sorted(self._file("sort", file_name).splitlines()))}

    @tool
    def grep(self, file_name: str, pattern: str) -> dict[str, Any]:
        """The lines of a file in the current folder that contain a text."""
        return {"matching_lines": [line for line in self._file("grep", file_name).splitlines() if pattern in line]}

    @tool
    def du(self, human_readable: bool = False) -> dict[str, Any]:
        """Bytes of all files below the current folder."""
        size: float = sum(len(entry.encode()) for _, _, entry, _ in self.current.walk() if isinstance(entry, str))
        if not human_readable:
            return {"disk_usage": f"{size} bytes"}
        for unit in ("B", "KB", "MB", "GB", "TB"):
            if size < 1024:
                return {"disk_usage": f"{size:.2f} {unit}"}
            size /= 1024
        return {"disk_usage": f"{size:.2f} PB"}

    @tool
    def tail(self, file_name: str, lines: int = 10) -> dict[str, Any]:
        """The last lines of a file in the current folder."""
        content = self._file("tail", file_name).splitlines()
        return {"last_lines": "\n".join(content[-min(lines, len(content)) :])}

    @tool
    def diff(self, file_name1: str, file_name2: str) -> dict[str, Any]:
        """The lines in which two files of the current folder differ, pair by pair."""
        files = [self.current.contents.get(name) for name in (file_name1, file_name2)]
        if not (isinstance(files[0], str) and isinstance(files[1], str)):
            raise ToolError(f"diff: {file_name1} or {file_name2}: No such file or directory")
        pairs = zip(files[0].splitlines(), files[1].splitlines(), strict=False)
        return {"diff_lines": "\n".join(f"- {old}\n+ {new}" for old, new in pairs if old != new)}

    @tool
    def mv(self, source: str, destination: str) -> dict[str, Any]:
        """Move an entry of the current folder into a folder beside it, or give it a new name."""
        place, name, entry = self._target("mv", "move", source, destination)
        inside = place is not self.current
        del self.current.contents[source]
        place.contents[name] = entry
        if isinstance(entry, Folder):
            entry.name, entry.parent = name, place
        return {"result": f"'{source}' moved to '{destination}{'/' + source if inside else ''}'"}

    @tool
    def cp(self, source: str, destination: str) -> dict[str, Any]:
        """Copy an entry of the current folder into a folder beside it, or under a new name."""
        place, name, entry = self._target("cp", "copy", source, destination)
        place.contents[name] = entry.copy(name, place) if isinstance(entry, Folder) else entry
        inside = place is not self.current
        return {"result": f"'{source}' copied to '{destination}{'/' + source if inside else ''}'"}

    def _target(self, command: str, verb: str, source: str, destination: str) -> tuple[Folder, str, Folder | str]:
        """Folder and name that a moved or copied entry gets, and the entry."""
        failed = f"{command}: cannot {verb} '{source}'"
        here = self.current
        need(source in here.contents, f"{failed}: No such file or directory")
        need(
            "/" not in destination,
            f"{command}: path not allowed in destination. Provide only a file or directory name.",
        )
        entry, target = here.contents[source], here.contents.get(destination)
        if isinstance(target, str):
            raise ToolError(f"{failed} to '{destination}': Not a directory")
        if target is None:
            need(destination not in _NO_NAMES, f"{failed} to '{destination}': Invalid character")
            self._make_room(failed, here, entry)
            return here, destination, entry
        inside = f"{destination}/{source}"
        need(target is not entry, f"{failed} to a subdirectory of itself, '{inside}'")
        need(source not in target.contents, f"{failed} to '{inside}': File exists")
        self._make_room(failed, target, entry)
        return target, source, entry

    @tool
    def rm(self, file_name: str) -> dict[str, Any]:
        """Remove a file, or a folder with all that is in it, from the current folder."""
        need(file_name in self.current.contents, f"rm: cannot remove '{file_name}': No such file or directory")
        del self.current.contents[file_name]
        return {"result": f"'{file_name}' removed"}

    @tool
    def rmdir(self, dir_name: str) -> dict[str, Any]:
        """Remove an empty folder from the current folder."""
        failed = f"rmdir: cannot remove '{dir_name}'"
        need(dir_name in self.current.contents, f"{failed}: No such file or directory")
        entry = self.current.contents[dir_name]
        if not isinstance(entry, Folder):
            raise ToolError(f"{failed}: Not a directory")
        need(not entry.contents, f"{failed}: Directory not empty")
        del self.current.contents[dir_name]
        return {"result": f"'{dir_name}' removed"}


def _load(name: str, parent: Folder | None, contents: Mapping[str, Any]) -> Folder:
    folder = Folder(name, parent)
    for key, entry in contents.items():
        is_folder = entry["type"] == "directory"
        folder.contents[key] = _load(key, folder, entry["contents"]) if is_folder else entry["content"]
    return folder
