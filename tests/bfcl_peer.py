"""The leaderboard's own checker, loaded from the wheel without the 5.9 GB of packages that importing it pulls in."""

from __future__ import annotations

import importlib.util
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

Call = dict[str, dict[str, Any]]
Checker = Callable[[list[dict[str, Any]], list[Call], list[dict[str, Any]], str], bool]


def data_folder() -> Path | None:
    """The data inside the wheel, installed without its dependencies or unpacked where BFCL_EVAL_SRC says."""
    source = os.environ.get("BFCL_EVAL_SRC")
    if source:
        folder = Path(source) / "bfcl_eval" / "data"
        return folder if folder.is_dir() else None
    spec = importlib.util.find_spec("bfcl_eval")
    return Path(spec.submodule_search_locations[0]) / "data" if spec and spec.submodule_search_locations else None


def checker() -> Checker | None:
    """`check(functions, calls, accepted, category)`; None where the wheel is not here."""
    folder = data_folder()
    if folder is None:
        return None
    sys.path.insert(0, str(folder.parent.parent))
    for name, values in {
        "bfcl_eval.constants.model_config": {
            "MODEL_CONFIG_MAPPING": {"x": types.SimpleNamespace(underscore_to_dot=False)}
        },
        "bfcl_eval.eval_checker.ast_eval.type_convertor.java_type_converter": {"java_type_converter": None},
        "bfcl_eval.eval_checker.ast_eval.type_convertor.js_type_converter": {"js_type_converter": None},
    }.items():
        module = types.ModuleType(name)
        module.__dict__.update(values)
        sys.modules[name] = module
    try:
        from bfcl_eval.constants.enums import Language
        from bfcl_eval.eval_checker.ast_eval.ast_checker import ast_checker
    finally:
        sys.path.remove(str(folder.parent.parent))

    def check(
        functions: list[dict[str, Any]], calls: list[Call], accepted: list[dict[str, Any]], category: str
    ) -> bool:
        try:
            return bool(ast_checker(functions, calls, accepted, Language.PYTHON, category, "x")["valid"])
        except (KeyError, TypeError, AttributeError, IndexError):  # it crashes on some shapes of values: not accepted
            return False

    return check
