"""What a training run says on a terminal: how it begins, how far it is, an epoch as a line."""

import sys
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from utils.engine.trainer import Trainer
from utils.runtime.distributed import is_main, world_size
from utils.runtime.provenance import PROVENANCE
from utils.show.report import duration

EVERY = 60.0  # seconds between lines where there is no terminal for a bar
WIDEST = 100  # letters of a line
NARROWEST = 8  # of them for a column, with a blank in front
ROOM = WIDEST - 40  # of them for score and losses, between the epoch's number and pace and time
BAR = "{percentage:3.0f}%|{bar}| {desc}"  # tqdm would put a comma before a postfix
MARGIN = 9  # letters before what an opening line says


def opening(
    content: Mapping[str, Any], trainer: Trainer, folder: Path, data: str, recipe: str, gain: str
) -> str:
    """What runs where, in five lines, of which a long one goes on below itself.

    Args:
        content: what the run's files say, see `utils.engine.runs.files.facts`.
        trainer: the run.
        folder: where it writes.
        data: what it trains on.
        recipe: what decided how, see `utils.recipes.describe`.
        gain: how fast this arithmetic is beside others, where that has been measured.
    """
    config, origin = trainer.config, content.get(PROVENANCE, {})
    processes = f", {world_size()} processes" if world_size() > 1 else ""
    shares = {name: f"{100 * share:g} %" for name, share in trainer.task.shares.items()}
    factors = {name: f"{w:g}" for name, w in trainer.task.weights.items() if w} | shares
    terms = [f"{factor} {name}" for name, factor in factors.items()]
    teacher = f", teacher {origin['teacher']['path']}" if "teacher" in origin else ""
    lines = {
        "device": f"{origin.get('device', content['arithmetic']['device'])}, "
        f"{content['arithmetic']['dtype']}{f' ({gain})' if gain else ''}{processes}",
        "data": data,
        "network": f"{content.get('backbone', 'a network')}, {content['parameters'] / 1e6:.2f} M "
        f"parameters, {content['gflops']:.2f} GFLOPs an image",
        "loss": f"{' + '.join(terms)}{teacher}; {config.epochs} epochs of "
        f"{trainer.steps_per_epoch} steps; {recipe}",
        "folder": str(folder),
    }
    return "\n".join(hanging(name, text) for name, text in lines.items())


def hanging(name: str, text: str) -> str:
    """A text beside its name; lines after the first one begin where the text does."""
    return textwrap.fill(
        text,
        WIDEST,
        initial_indent=f"{name:{MARGIN}}",
        subsequent_indent=" " * MARGIN,
        break_long_words=False,
        break_on_hyphens=False,
    )


class Stage(NamedTuple):
    """A part of a piece of work, and an estimate of the others as multiples of what it takes.

    name: what is trained: `teacher`, `student`, `network`.
    before: the stages that are done.
    after: those that are still to come.
    """

    name: str
    before: float = 0.0
    after: float = 0.0


class Progress:
    """How far a run is: one bar for all of it, or, where stderr is no terminal, a line a minute.

    Args:
        trainer: the run, new or loaded with an earlier state.
        stage: what of all the work it is.
    """

    def __init__(self, trainer: Trainer, stage: Stage) -> None:
        self.trainer, self.stage = trainer, stage
        self.begun = self.said = time.monotonic()
        self.before = trainer.steps  # what an earlier process has done tells nothing of the pace
        self.named = False  # whether the columns have their names
        hidden = True if not is_main() else None  # None: where there is no terminal
        self.bar = tqdm(
            total=round(trainer.total * (stage.before + 1 + stage.after)),
            initial=self.all_done(),
            leave=False,
            disable=hidden,
            bar_format=BAR,
        )

    def all_done(self) -> int:
        """How many steps are done, with those of stages before as steps of this one."""
        return round(self.trainer.total * self.stage.before) + self.trainer.steps

    def step(self) -> None:
        """A step has been done."""
        trainer = self.trainer
        self.bar.update(self.all_done() - self.bar.n)
        if trainer.steps % trainer.config.log_every == 0:
            self.bar.set_description_str(f"{self.place()}: {self.told()}")
        if self.bar.disable and is_main() and time.monotonic() - self.said >= EVERY:
            self.line(
                f"{self.place()}, step {trainer.position}/{trainer.steps_per_epoch}: {self.told()}"
            )

    def place(self) -> str:
        """`student 2/7`."""
        epoch = min(self.trainer.epoch + 1, self.trainer.config.epochs)
        return f"{self.stage.name} {epoch}/{self.trainer.config.epochs}"

    def told(self) -> str:
        """`loss 4.21, 4 min left, about 12 min in all`, by what has been read of the losses."""
        loss = self.trainer.readings.means().get("loss")
        words = [*([f"loss {loss:.3f}"] if loss is not None else []), self.left()]
        if self.stage.after and (seconds := self.seconds(self.stage.after)) is not None:
            words.append(f"about {duration(seconds)} in all")
        return ", ".join(words)

    def left(self) -> str:
        """`4 min left` of this stage."""
        seconds = self.seconds()
        return "time left unknown" if seconds is None else f"{duration(seconds)} left"

    def seconds(self, after: float = 0.0) -> float | None:
        """What is left of this stage, and `after` times a whole one, at the pace so far.

        Validations count. None where no step has been done yet.
        """
        done, total = self.trainer.steps - self.before, self.trainer.total
        if not done:
            return None
        left = total * (1 + after) - self.trainer.steps
        return (time.monotonic() - self.begun) / done * left

    def epoch(self, metrics: Mapping[str, Any]) -> None:
        """An epoch has been done: its line, and before the first one the names of the columns."""
        head, row = columns(metrics, self.trainer.task.weights)
        if not self.named:
            self.line(f"{'epoch':>13}{head}")
            self.named = True
        done = f"{self.stage.name} {self.trainer.epoch}/{self.trainer.config.epochs}"
        self.line(f"{done:>13}{row}  {self.left()}")

    def line(self, text: str) -> None:
        """A line above the bar."""
        self.said = time.monotonic()
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()

    def close(self) -> None:
        """Takes the bar away."""
        self.bar.close()


def columns(metrics: Mapping[str, Any], weights: Mapping[str, float]) -> tuple[str, str]:
    """The names of an epoch's columns and its values: mAP in percent, loss, terms, images a second.

    Terms of weight 0 are left out, and those that a line has no room for; metrics.jsonl has all.
    """
    score = metrics.get("mAP")
    cells = {
        "voc07": "-" if score is None else f"{100 * score:.1f}",
        "loss": number(metrics.get("train/loss")),
        "val": number(metrics.get("val/loss")),
        **{name: number(metrics.get(f"train/{name}")) for name, w in weights.items() if w},
    }
    pace = metrics.get("images_per_second")
    last = {"images/s": "-" if pace is None else f"{pace:.0f}"}
    head, row = "", ""
    for name, text in [*cells.items(), *last.items()]:
        width = max(NARROWEST, len(name) + 1)
        if name in last or len(head) + width <= ROOM:
            head, row = head + f"{name:>{width}}", row + f"{text:>{width}}"
    return head, row


def number(value: float | None) -> str:
    """Four digits, fewer where they take more than seven letters; a dash for what is not known."""
    if value is None:
        return "-"
    texts = [f"{value:#.{digits}g}" for digits in (4, 3, 2, 1)]
    return next((text for text in texts if len(text) < NARROWEST), texts[-1])
