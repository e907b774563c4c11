"""Command lines: a dataclass of `utils.config` in, its settings or one line of error out."""

import argparse
import dataclasses
import inspect
import os
import re
import signal
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import torch

from utils.config import TrainConfig, flag
from utils.engine.interrupts import Stopped
from utils.files import described
from utils.runtime.distributed import processes
from utils.runtime.memory import keep_freed_memory
from utils.suggest import meant

T = TypeVar("T")

# How --help groups the settings of training; those of a smaller program need no groups.
GROUPS = {
    "data": "data train val classes skip_bad difficult unlabelled unlabelled_fraction pseudo_score "
    "pseudo_doubt pseudo_pictures",
    "network": "backbone pretrained weights",
    "schedule": "recipe epochs batch_size accumulate optimizer lr momentum weight_decay schedule "
    "milestones warmup clip_norm freeze_epochs ema expand patience",
    "losses": "neg_pos_ratio negatives_for_hard conf_weight loc_weight",
    "distillation": "teacher teacher_backbone teacher_epochs teacher_pretrained preset soft_weight "
    "l2_weight distill share temperature neg_w pos_w reg_m kd_schedule kd_final kd_epochs "
    "teacher_views memo memo_best_effort match_priors preflight",
    "running": "name logs resume seed device cache workers amp compile sync_bn val_every log_every "
    "ledger_every save_every profile",
}


class Formatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Lines of the description as they are; defaults behind the help, where there are any."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return (
            super()._get_help_string(action)
            if action.default not in ("", (), None)
            else action.help
        )


class Parser(argparse.ArgumentParser):
    """argparse with one-line errors, for what was started."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(prog=program(), allow_abbrev=False, **keywords)

    def error(self, message: str) -> NoReturn:
        """Leaves the one line and the exit status to `run`.

        Of several processes whichever is the first to fail speaks: once it has ended, torchrun may
        stop the others before they could.
        """
        raise ValueError(f"{message}{self.meant(message)} (see --help)")

    def meant(self, message: str) -> str:
        """What a misspelt flag or choice that argparse complains about probably was."""
        unknown = re.search(r"unrecognized arguments: (--[\w-]+)", message)
        if unknown:
            return meant(unknown[1], self._option_string_actions)
        choice = re.match(r"argument (--[\w-]+): invalid choice: '(.*?)'", message)
        if choice:
            return meant(choice[2], self._option_string_actions[choice[1]].choices or ())
        return ""


def parse_arguments(
    schema: type[T], arguments: Sequence[str] | None = None, about: str | None = None
) -> T:
    """The settings that a command line describes.

    Args:
        schema: one of the dataclasses above.
        arguments: the command line without the program; default: this process's.
        about: what --help says first; default: the docstring of the schema.

    Raises:
        ValueError: unknown flag; a value of the wrong type, or out of range.
    """
    examples = "\n".join(f"  {text}" for text in getattr(schema, "example_lines", ()))
    parser = Parser(
        description=inspect.cleandoc(about or schema.__doc__ or ""),
        formatter_class=Formatter,
        usage=f"{typed()} [SETTING ...]",
        epilog=f"examples:\n{examples}" if examples else None,
    )
    groups = groups_of(parser, [field.name for field in dataclasses.fields(schema)])  # type: ignore[arg-type]
    hints = typing.get_type_hints(schema)
    presets: dict[str, dict[str, Any]] = getattr(schema, "presets", {})
    for field in dataclasses.fields(schema):  # type: ignore[arg-type]  # T is a dataclass
        kind, many = hints[field.name], False
        if typing.get_origin(kind) is tuple:
            kind, many = typing.get_args(kind)[0], True
        keywords: dict[str, Any] = {"default": field.default, "help": field.metadata["help"]}
        if kind is bool:
            keywords["action"] = argparse.BooleanOptionalAction
        else:
            keywords |= {"type": kind, "choices": field.metadata["choices"]}
            keywords |= {"nargs": "*"} if many else {}
        by_preset = {name: of[field.name] for name, of in presets.items() if field.name in of}
        # Where the command line says nothing, a config asks its preset, and a run its recipe.
        if field.default is None:
            keywords["default"] = argparse.SUPPRESS
            keywords["help"] += f" (default: {listed(by_preset) or 'by --recipe'})"
        name = field.name if field.metadata["positional"] else flag(field.name)
        groups.get(field.name, parser).add_argument(name, **keywords)
    values = vars(parser.parse_args(arguments))
    return schema(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def groups_of(parser: Parser, names: Sequence[str]) -> dict[str, argparse._ArgumentGroup]:
    """The group of each setting, made in the order of `GROUPS`; empty where few need them."""
    if not {"recipe", "backbone"} <= set(names):
        return {}
    wanted = {title: set(words.split()) & set(names) for title, words in GROUPS.items()}
    groups = {title: parser.add_argument_group(title) for title, known in wanted.items() if known}
    return {name: groups[title] for title in groups for name in wanted[title]}


def flags_of(config: TrainConfig) -> list[str]:
    """The command line, without the program, that `parse_arguments` makes these settings of.

    What would be so anyway is left out.
    """
    wanted = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    given = {name: value for name, value in wanted.items() if name == "preset"}
    # What one setting is by default may depend on others.
    while other := differing(type(config)(**given), wanted):
        given |= other
    words: list[str] = []
    for name, value in wanted.items():
        if name in given and isinstance(value, bool):
            words.append(flag(name if value else f"no_{name}"))
        elif name in given and str(value).startswith("-"):  # argparse would take -1e-05 for a flag
            words.append(f"{flag(name)}={value}")
        elif name in given:
            words += [flag(name), *map(str, value if isinstance(value, tuple) else (value,))]
    return words


def differing(config: TrainConfig, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the wanted settings that `config` has otherwise."""
    return {name: value for name, value in wanted.items() if getattr(config, name) != value}


def listed(values: Mapping[str, Any]) -> str:
    """`tutorial none, paper hint(weight=0.5)`: what each preset says."""
    shown = {k: " ".join(v) or "none" if isinstance(v, tuple) else v for k, v in values.items()}
    return ", ".join(f"{name} {value}" for name, value in shown.items())


def run(
    main: Callable[[Sequence[str] | None], None], arguments: Sequence[str] | None = None
) -> NoReturn:
    """Runs a script; input that it refuses ends it with one line and exit status 2.

    So does a signal, with the status that is usual for it, once training has saved itself. Under
    torchrun the script runs in every process, see `utils.runtime.distributed.processes`. A reader
    that has enough of the output (`| head`) ends it, too, silently.

    With TRACEBACK=1 in the environment the traceback is shown, too.
    """
    keep_freed_memory()
    try:
        with processes():
            main(arguments)
            sys.stdout.flush()
    except Stopped as stopped:
        end(str(stopped), stopped.status)
    except KeyboardInterrupt:
        end("stopped by SIGINT", 128 + signal.SIGINT)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains, too
        sys.exit(128 + signal.SIGPIPE)
    except (ValueError, OSError, FloatingPointError, MemoryError, torch.OutOfMemoryError) as error:
        if os.environ.get("TRACEBACK"):
            raise
        end(complaint(error), 2)
    sys.exit(0)


def complaint(error: Exception) -> str:
    """What an error says, with a remedy where it has none itself."""
    if isinstance(error, OSError):
        return described(error)
    if isinstance(error, torch.OutOfMemoryError):  # outside of `utils.runtime.device.memory_for`
        first = str(error).partition(". ")[0]
        return f"{first}; free the GPU, lower --batch-size, or pass --cache ram or --device cpu"
    return str(error) or f"{type(error).__name__}; set TRACEBACK=1 to see where"


def end(message: str, status: int) -> NoReturn:
    """Ends this process with one line."""
    print(line(f"{program()}: {message}"), file=sys.stderr)
    sys.exit(status)


def program() -> str:
    """What was started: `train_kd.py`, or what `python -m` was given, `tools.compare`."""
    module = sys.modules["__main__"].__spec__
    return module.name.removesuffix(".__main__") if module else Path(sys.argv[0]).name


def typed() -> str:
    """`program` as people start it."""
    started = program()
    return f"python {started}" if started.endswith(".py") else f"python -m {started}"


def line(text: str, longest: int = 1200) -> str:
    """A text without line breaks; of one that nobody would read, its start and its end."""
    text = " ".join(text.split())
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]} ... {text[-half:]}"
