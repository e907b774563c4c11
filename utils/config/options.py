"""What a setting is, and what all of them are checked with."""

import dataclasses
from collections.abc import Sequence
from typing import Any

# No setting is meant to be larger, and torch's integers and float32 hold it and its square.
LARGEST = 1e9


def option(
    default: Any,
    help: str,  # noqa: A002
    choices: Sequence[str] | None = None,
    *,
    positional: bool = False,
) -> Any:
    """A field with its default, its help and, where few values make sense, those values.

    A positional one is given without a flag.
    """
    metadata = {"help": help, "choices": choices, "positional": positional}
    return dataclasses.field(default=default, metadata=metadata)


def flag(name: str) -> str:
    """`batch_size` -> `--batch-size`."""
    return "--" + name.replace("_", "-")


def at_least(config: Any, low: float, *names: str) -> None:
    """Raises ValueError for a field that is below `low`, or above all that can be meant."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not low <= value <= LARGEST:
            limit = f"at most {LARGEST:g}" if value > LARGEST else f"at least {low}"
            raise ValueError(f"{flag(name)} must be {limit}, not {value}")


def above(config: Any, low: float, *names: str) -> None:
    """Raises ValueError for a field that is not above `low`, or above all that can be meant."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not low < value <= LARGEST:
            limit = f"at most {LARGEST:g}" if value > LARGEST else f"above {low}"
            raise ValueError(f"{flag(name)} must be {limit}, not {value}")
