"""What the benchmarks share: a fresh process for each measurement, its peak memory, and a table."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
HARDWARE = "2-core x86-64 CPU"
GIB = 2**30


@dataclass
class Cost:
    """What one call cost its process."""

    extra_peak_bytes: int
    """Highest resident memory during the call, less the resident memory just before it."""
    cpu_seconds: float
    wall_seconds: float


def _status(field: str) -> int:
    """A memory field of this process in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {field} in /proc/self/status: this benchmark needs Linux")


def measure(call: Callable[[], Any]) -> tuple[Any, Cost]:
    """Result and cost of one call, in this process."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far becomes the present size
    before, wall, cpu = _status("VmRSS"), time.perf_counter(), time.process_time()
    result = call()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return result, Cost(_status("VmHWM") - before, cpu, wall)


def available_bytes() -> int:
    """Memory that the kernel could give to a new process."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no MemAvailable in /proc/meminfo: this benchmark needs Linux")


def in_fresh_process(script: str, arguments: Sequence[str | int], python: str = sys.executable) -> dict[str, Any]:
    """Run a script of this folder and return the JSON object on the last line that it prints."""
    command = [python, str(ROOT / "benchmarks" / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, arguments))} failed:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def emit(cost: Cost, **more: Any) -> None:
    """Print the line that `in_fresh_process` reads."""
    print(json.dumps({**asdict(cost), **more}))


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A GitHub table; first column left, the others right."""
    lines = ["| " + " | ".join(header) + " |", "|---" + "|--:" * (len(header) - 1) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"
