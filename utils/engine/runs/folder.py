"""A run's folder: whether it may be written to, and whether to go on with what is in it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from utils.config import DistillConfig, TrainConfig, flag
from utils.engine.runs.checkpoint import has_checkpoint
from utils.files import check_folder
from utils.runtime.distributed import restarted

LAST, BEST = "last.pth", "best.pth"
# Settings that may differ when a run is resumed: they decide where and how, not what is computed.
FREE = {"data", "classes", "logs", "name", "device", "workers", "cache", "skip_bad", "resume"}
FREE |= {"val_every", "log_every", "ledger_every", "preflight", "save_every", "profile", "compile"}
FREE |= {"accumulate", "memo", "memo_best_effort", "patience", "pseudo_pictures"}
FREE |= {"teacher_pretrained"}  # of stage 1, a run of its own
FREE |= {"recipe"}  # what it decides counts


def free_settings(config: TrainConfig) -> set[str]:
    """`FREE`, but for those that do decide what this run computes."""
    return FREE - (
        {"ledger_every"} if isinstance(config, DistillConfig) and config.share else set()
    )


def run_folder(config: TrainConfig) -> Path:
    """The run's folder, unless it would overwrite a run or its inputs, or cannot be written to.

    Raises:
        FileExistsError, ValueError: see above.
    """
    folder = Path(config.logs) / config.name
    check_folder(folder, "--logs, --name:")
    if has_run(config) and not goes_on(config):
        raise FileExistsError(
            f"{folder} holds a run already; pass --resume to go on with it, or another --name"
        )
    for name in ("weights", "teacher", "classes"):
        path = Path(getattr(config, name, ""))
        if path.resolve() in ((folder / file).resolve() for file in (LAST, BEST)):
            raise ValueError(
                f"{flag(name)} {path} is where this run will write its own; choose another --name"
            )
    return folder


def check_resumable(*stages: TrainConfig) -> None:
    """Refuses `--resume` where none of the stages of a piece of work has saved anything.

    Raises:
        FileNotFoundError: see above.
    """
    if stages[0].resume and not any(map(has_run, stages)):
        raise FileNotFoundError(
            f"--resume: {Path(stages[0].logs) / stages[0].name} holds nothing to go on with; check "
            "--name and --logs, or leave it out"
        )


def has_run(config: TrainConfig) -> bool:
    """Whether the run has saved anything yet."""
    return has_checkpoint(Path(config.logs) / config.name / LAST)


def goes_on(config: TrainConfig) -> bool:
    """Whether to go on with what the run has saved.

    It does when --resume asks for it. A process that torchrun has started again after a failure
    acts as if it did, unless the folder holds a run with other settings: on that one the first
    attempt has failed already.
    """
    return config.resume or (restarted() and has_run(config) and is_run_of(config))


def is_run_of(config: TrainConfig) -> bool:
    """Whether the run's config.json has the very same settings, as far as they are given."""
    path = Path(config.logs) / config.name / "config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["config"]
    except (OSError, ValueError, LookupError, TypeError):  # none, or damaged
        return False
    ours = settings(config)
    # By the recipe; a backbone that is not named is that of --weights.
    decided = {k: v for k, v in ours.items() if v is None or (k == "backbone" and not v)}
    return isinstance(found, dict) and found | decided == ours


def settings(config: TrainConfig) -> dict[str, Any]:
    """The settings of a run as its files have them."""
    return plain(dataclasses.asdict(config))


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """Settings as JSON has them: tuples become lists."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
