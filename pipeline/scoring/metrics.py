"""Metrics of the config made callable: found by name, checked at every call, timed, and their source files listed."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.base.errors import AbidingError, ConfigError, StepError
from pipeline.base.rows import Item, ResultRow
from pipeline.scoring.builtin import BUILT_IN
from pipeline.scoring.settings import Metric

REPORTED = 20
"""So many failing or slow items are named; the others are counted."""


def load(metric: Metric, root: Path | None = None) -> Callable[..., Any]:
    """The function that `metric.use` names: a built-in, or `module:function` with `root` (the project's folder) on the path.

    Raises ConfigError naming metric, module and function where it cannot be had or does not take the options.
    """
    where = f"metrics: {metric.name}: use"
    if ":" not in metric.use:
        if metric.use not in BUILT_IN:
            raise ConfigError(
                f"{metric.use!r} is no built-in metric",
                where=where,
                remedy=f"Write module:function, or one of {', '.join(sorted(BUILT_IN))}.",
            )
        function: Callable[..., Any] = BUILT_IN[metric.use]
    else:
        module_name, function_name = metric.use.split(":", 1)
        if root is not None and str(root) not in sys.path:
            sys.path.insert(0, str(root))
        try:
            module = importlib.import_module(module_name)
        except (Exception, SystemExit) as e:
            raise ConfigError(
                f"cannot import {module_name!r}: {type(e).__name__}: {e}", where=where, remedy="Put the module beside dodo.py."
            ) from e
        function = getattr(module, function_name, None)  # type: ignore[assignment]
        if not callable(function):
            there = [name for name, value in vars(module).items() if inspect.isfunction(value) and value.__module__ == module.__name__]
            remedy = f"Functions there: {', '.join(there) or 'none'}."
            raise ConfigError(f"{module_name!r} has no function {function_name!r}", where=where, remedy=remedy)
    signature = inspect.signature(function)
    try:
        signature.bind(None, "", None, **metric.options)
    except TypeError as e:
        try:
            signature.bind(None, "", **metric.options)
        except TypeError:
            raise ConfigError(
                f"{metric.use} cannot be called as (item, answer, row, **options): {e}",
                where=where,
                remedy="Check its parameters and `options`.",
            ) from e
        return lambda item, answer, row, **options: function(item, answer, **options)  # one that does not care for the row
    return function


class Caller:
    """One metric in use: calls the function, checks what it returns, and keeps who raised and who was slow."""

    def __init__(self, metric: Metric, root: Path | None, slow_seconds: float) -> None:
        self.metric, self._function, self._slow = metric, load(metric, root), slow_seconds
        self.columns: tuple[str, ...] | None = None
        """Names of its numbers, known from the first answer on for which it is defined."""
        self.forget_calls()

    def forget_calls(self) -> None:
        """Start the record of failing and slow calls anew; the columns stay."""
        self.failed: list[str] = []
        self.failures = 0
        self.slow: list[dict[str, Any]] = []
        self.slow_calls = 0

    def __call__(self, item: Item, row: ResultRow) -> dict[str, float | None]:
        """Value by column for one answer. An exception of the function is kept for `raise_failures` and gives no value."""
        start = time.perf_counter()
        try:
            value = self._function(item, row.text, row, **self.metric.options)
            result = self._checked(value)
        except ConfigError as e:  # a wrong option: the same for every item
            raise ConfigError(e.fact, where=f"metrics: {self.metric.name}: {e.where}", remedy=e.remedy) from e
        except (Exception, SystemExit) as e:  # noqa: BLE001 - a user's function may raise anything; it is reported with item and function
            self.failures += 1
            if len(self.failed) < REPORTED:
                reason = str(e) if isinstance(e, AbidingError) else f"{type(e).__name__}: {e}"
                self.failed.append(f"{item.key}: {reason}")
            return {}
        if (seconds := time.perf_counter() - start) > self._slow:
            self.slow_calls += 1
            if len(self.slow) < REPORTED:
                self.slow.append({"metric": self.metric.name, "item": item.key, "seconds": round(seconds, 3)})
        return result

    def _checked(self, value: Any) -> dict[str, float | None]:
        name = self.metric.name
        if value is None:
            return {}
        given = value if isinstance(value, Mapping) else {name: value}
        named: dict[str, float | None] = {(name if key == name else f"{name}_{key}"): v for key, v in given.items()}
        for column, number in named.items():
            if number is None:
                continue
            try:
                number = float(number)
            except (TypeError, ValueError):
                raise StepError(f"returned {number!r} for {column}, not a number") from None
            if not math.isfinite(number):
                raise StepError(f"returned {number} for {column}")
            limits = self.metric.range
            if limits and not limits[0] <= number <= limits[1]:
                raise StepError(f"returned {number:g} for {column}, outside its range {list(limits)}")
            named[column] = number
        if self.columns is None:
            self.columns = tuple(named)
        elif extra := sorted(set(named) - set(self.columns)):
            raise StepError(f"returned {extra[0]}, but for the first answer only {', '.join(self.columns)}")
        return named

    def worst(self) -> dict[str, float | None]:
        """What a request without a whole answer gets in each column."""
        return dict.fromkeys(self.columns or (self.metric.name,), self.metric.worst)

    def raise_failures(self) -> None:
        """Raise StepError naming function and items, where the function raised or returned what it may not."""
        if self.failures:
            shown = "; ".join(self.failed[:5])
            more = f" (and {self.failures - 5} more)" if self.failures > 5 else ""
            raise StepError(
                f"{self.metric.use} failed on {self.failures} answers: {shown}{more}",
                where=f"metric {self.metric.name}",
                remedy="Mend the function, or let it return None where it is not defined; then run again.",
            )


def source_files(metrics: Iterable[Metric], root: Path) -> list[Path]:
    """The files whose bytes decide the scores: this package, and each own metric's module with what it imports from below `root`.

    Imports nothing. Raises ConfigError where a module cannot be found.
    """
    found = dict.fromkeys(sorted(Path(__file__).parent.glob("*.py")))
    for metric in metrics:
        if ":" in metric.use:
            module = metric.use.split(":", 1)[0]
            path = _below(module, root) or _installed(module)
            if path is None:
                raise ConfigError(f"no module {module!r}", where=f"metrics: {metric.name}: use", remedy="Put the module beside dodo.py.")
            _follow(path, root, found)
    return list(found)


def _below(module: str, root: Path) -> Path | None:
    base = root.joinpath(*module.split("."))
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)


def _installed(module: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.origin and Path(spec.origin).is_file() else None


def _follow(path: Path, root: Path, found: dict[Path, None]) -> None:
    if path in found:
        return
    found[path] = None
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError:  # importing it will say so, with the place
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.ImportFrom) and node.level == 1:
            package = ".".join(path.parent.relative_to(root).parts) if path.is_relative_to(root) else ""
            names = [".".join(filter(None, (package, node.module, alias.name))) for alias in node.names]
            names += [".".join(filter(None, (package, node.module)))] if node.module else []
        else:
            continue
        for name in names:
            parts = name.split(".")
            for n in range(1, len(parts) + 1):  # importing a.b runs a/__init__.py too
                if parts[0] != "pipeline" and (imported := _below(".".join(parts[:n]), root)):
                    _follow(imported, root, found)
