"""The run report: one HTML file that needs nothing but itself.

Text written by models is never markup here. It travels as JSON in which ``<``, ``>`` and ``&`` are escaped,
the page's script puts it in place as text only, and the page's content security policy admits exactly the
script and the style sheet that this module inlines: no other code runs and nothing is fetched.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from agents.report.attempts import load_attempts
from agents.report.curves import (
    accumulate,
    latest,
    more_curves,
    success_curves,
    temperature_name,
    training_curves,
)
from agents.report.metrics import METRICS_FILE, TRAJECTORIES_FILE, jsonable, read_jsonl

SCRIPTS = ("dom.js", "chart.js", "overview.js", "tokens.js", "attempt.js", "browser.js", "main.js")
STYLES = ("page.css", "attempts.css", "discovery.css")


def write_report(run_dir: str | os.PathLike[str], output: str | os.PathLike[str] | None = None) -> Path:
    """Write the page of a run, finished or not, to ``output`` (default ``<run_dir>/report.html``).

    Raises FileNotFoundError where there is no run directory, and ValueError where a file in it is damaged.
    """
    root = Path(run_dir)
    if not root.is_dir():
        raise FileNotFoundError(f"no run directory at {root}; give the directory that holds config.json")
    target = Path(output) if output is not None else root / "report.html"
    partial = target.with_name(target.name + ".partial")
    partial.write_text(render(page_data(root)), encoding="utf-8")
    os.replace(partial, target)
    return target


def page_data(root: Path) -> dict[str, Any]:
    """Everything the page shows, as strict JSON."""
    config = read_json(root / "config.json") or {}
    summary = read_json(root / "summary.json")
    rows = read_jsonl(root / METRICS_FILE)
    teacher = latest(rows, "teacher")
    data = {
        "recipe": _name(config.get("recipe")),
        "env": _name(config.get("env")),
        "model": _name(config.get("model")),
        "run": root.resolve().name,
        "finished": summary is not None,
        "headline": _headline(summary, rows, config),
        "totals": _totals(summary, rows),
        "success": success_curves(rows),
        "curves": training_curves(rows),
        "more": more_curves(rows),
        "alarms": latest(rows, "alarm", "name"),
        "teacher": {k: v for k, v in teacher[-1].items() if k not in ("kind", "step")} if teacher else None,
        "config": config,
        "attempts": load_attempts(root / TRAJECTORIES_FILE),
    }
    return dict(jsonable(data))


def render(data: dict[str, Any], template: str = "template.html", scripts: Sequence[str] = SCRIPTS) -> str:
    """The page as one string of HTML; `page_data` describes ``data``.

    Another ``template`` and other ``scripts``, files of this package, make another page of it.
    """
    script = '(() => {\n"use strict";\n' + _resources(scripts) + "})();\n"
    style = _resources(STYLES)
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
    )
    title = " · ".join(part for part in (data["recipe"], data["env"], data["model"]) if part) or "Run report"
    parts = {
        "title": html.escape(title),
        "policy": html.escape(policy, quote=True),
        "style": style,
        "data": script_safe_json(data),
        "script": script,
    }
    frame = (files("agents.report") / template).read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], frame)


def script_safe_json(value: Any) -> str:
    r"""JSON that stays data inside a ``<script>`` element whatever text it carries.

    >>> script_safe_json({"text": "</script><!--"})
    '{"text":"\\u003c/script\\u003e\\u003c!--"}'
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _resources(names: Sequence[str]) -> str:
    return "\n".join((files("agents.report") / name).read_text(encoding="utf-8") for name in names)


def _digest(source: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


def read_json(path: Path) -> dict[str, Any] | None:
    """A file's JSON object; None where there is no file."""
    if not path.exists():
        return None
    try:
        value = json.loads(path.read_bytes(), parse_constant=lambda _: None)
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} should hold an object, not a {type(value).__name__}")
    return value


def _name(value: Any) -> str:
    """What a part of the configuration is called, whether it is a name or a table with one."""
    if isinstance(value, dict):
        return next((str(value[key]) for key in ("name", "id", "path", "model") if value.get(key)), "")
    return "" if value is None else str(value)


def _headline(
    summary: dict[str, Any] | None, rows: list[dict[str, Any]], config: dict[str, Any]
) -> list[dict[str, Any]]:
    """Success before and after, sampled and greedy; without a summary the first and the latest evaluation."""
    if summary is not None:
        evaluated = (config.get("config") or {}).get("eval") or {}
        sampled = temperature_name(evaluated.get("temperature") or 1.0)
        lines = [(sampled, summary.get("held_out")), ("greedy", summary.get("held_out_greedy"))]
        return [{"name": name, **pair} for name, pair in lines if pair and pair.get("after")]
    found: dict[float, list[dict[str, Any]]] = {}
    for row in latest(rows, "eval", "split", "temperature"):
        if row.get("split") != "train":
            found.setdefault(row.get("temperature") or 0.0, []).append(row)
    return [
        {"name": temperature_name(t), "before": evals[0], "after": evals[-1] if len(evals) > 1 else None}
        for t, evals in sorted(found.items(), reverse=True)
    ]


def _totals(summary: dict[str, Any] | None, rows: list[dict[str, Any]]) -> dict[str, float]:
    """Steps, generations, tokens, seconds of the run: as the summary has them, else added up."""
    said = {**(summary or {}), **((summary or {}).get("totals") or {})}
    train = latest(rows, "train")
    totals: dict[str, float] = {"steps": len(train)} if train else {}
    for name in ("generations", "tokens", "seconds", "cpu_seconds"):
        column = [row.get(name) for row in train]
        if any(value is not None for value in column):
            totals[name] = accumulate(column)[-1]
    for name in ("steps", "generations", "tokens", "seconds", "cpu_seconds"):
        if isinstance(said.get(name), int | float):
            totals[name] = said[name]
    return totals
