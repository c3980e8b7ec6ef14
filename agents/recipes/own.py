"""Recipes of your own, by where they are: ``my_package.my_module:MyRecipe`` or ``./my_method.py:MyRecipe``."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType

from agents.errors import SetupError
from agents.recipes.base import Recipe


def load(place: str) -> type[Recipe]:
    """The recipe class at a place.

    A file is run like a script: what lies beside it can be imported, for example an environment.

    Raises:
        SetupError: There is no such file, module or class, or the class is no recipe that can be trained.
    """
    where, _, attribute = place.rpartition(":") if ":" in place else (place, "", "")
    module = _file(place, Path(where)) if where.endswith(".py") else _module(place, where)
    defined = [
        name
        for name, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, Recipe) and value.__module__ == module.__name__
    ]
    listed = f"it defines {', '.join(defined)}" if defined else "it defines no recipe"
    if not attribute:
        if len(defined) != 1:
            raise SetupError(f"recipe={place!r}: {listed}; name one, as {where}:{(defined or ['MyRecipe'])[0]}")
        attribute = defined[0]
    found = getattr(module, attribute, None)
    if found is None:
        raise SetupError(f"recipe={place!r}: {where} has no {attribute}; {listed}")
    if not (inspect.isclass(found) and issubclass(found, Recipe)):
        raise SetupError(f"recipe={place!r}: {attribute} is no recipe: derive it from agents.recipes.base.Recipe")
    if inspect.isabstract(found):
        raise SetupError(f"recipe={place!r}: {attribute} has no {', '.join(sorted(found.__abstractmethods__))} method")
    return found


def _module(place: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise SetupError(f"recipe={place!r}: importing {name} failed: {error}") from error
        raise SetupError(
            f"recipe={place!r}: there is no module {error.name!r}; install it, or name a file: ./{error.name}.py:Class"
        ) from error


def _file(place: str, path: Path) -> ModuleType:
    path = path.resolve()
    if not path.is_file():
        raise SetupError(f"recipe={place!r}: there is no file {path}")
    for module in list(sys.modules.values()):
        if getattr(module, "__file__", None) == str(path) and module.__name__ != "__main__":
            return module
    name = path.stem if path.stem not in sys.modules and path.stem.isidentifier() else ""
    name = name or f"recipe_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the file does wrong is told as a wrong setting, with its traceback behind it
        del sys.modules[name]
        raise SetupError(f"recipe={place!r}: running {path} failed: {type(error).__name__}: {error}") from error
    return module
