"""Specs: the text `name(key=value, ...)` by which a command line chooses and sets up an object."""

import ast
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from utils.suggest import meant

T = TypeVar("T")


def parse(spec: str) -> tuple[str, dict[str, Any]]:
    """`"hint(weight=0.5)"` -> `("hint", {"weight": 0.5})`; values are Python literals, never code.

    Raises:
        ValueError: `spec` is not of this form.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of '\d', which Python reads, but not gladly
            node = ast.parse(spec.strip(), mode="eval").body
        if isinstance(node, ast.Name):
            return node.id, {}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
            values = {k.arg: ast.literal_eval(k.value) for k in node.keywords if k.arg}
            if len(values) == len(node.keywords):
                return node.func.id, values
    # The last three: {[]: 1}, and brackets in brackets in brackets.
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        pass
    raise ValueError(f"cannot read spec {spec!r}; write name or name(key=value, ...)")


def write(name: str, options: Mapping[str, Any]) -> str:
    """The spec that `parse` reads as this name and these options."""
    values = ", ".join(f"{key}={value!r}" for key, value in options.items())
    return f"{name}({values})" if options else name


def build(spec: str, registry: Mapping[str, Callable[..., T]], kind: str, **fixed: Any) -> T:
    """The object that `spec` describes.

    Args:
        spec: `name(key=value, ...)`.
        registry: constructors by name.
        kind: what the registry holds, for error messages, e.g. `backbone`.
        fixed: further keyword arguments, decided by the program rather than by the spec.

    Raises:
        ValueError: malformed spec, unknown name, or an option that the constructor does not have or
            that the program decides.
    """
    name, options = parse(spec)
    if name not in registry:
        known = ", ".join(sorted(registry))
        raise ValueError(f"unknown {kind} {name!r}{meant(name, registry)}; choose one of {known}")
    decided = {**fixed, **getattr(registry[name], "keywords", {})}  # of a functools.partial
    allowed = [key for key in inspect.signature(registry[name]).parameters if key not in decided]
    for key in options:
        if key not in allowed:
            raise ValueError(
                f"{kind} {name!r} has no option {key!r}{meant(key, allowed)}; it has "
                f"{', '.join(allowed) or 'none'}"
            )
    return registry[name](**options, **fixed)
