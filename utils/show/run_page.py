"""The page of a training run, or of several side by side: what was trained, how, how well."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from utils.engine.runs.log import METRICS, curves, read_metrics
from utils.show import examples
from utils.show.chart import lines
from utils.show.examples import SHOWN, View
from utils.show.page import (
    Markup,
    Page,
    code,
    folded,
    grid,
    paragraph,
    table,
    tiles,
)
from utils.show.precision import precision
from utils.show.report import duration

PAGE = "report.html"
CONFIG = "config.json"
# Settings without which there is nothing to say of a run.
NEEDED = ("train", "val", "epochs", "val_every", "batch_size", "optimizer", "lr", "schedule")


class Run(NamedTuple):
    """What a run's folder says."""

    name: str
    about: Mapping[str, Any]  # config.json
    rows: Sequence[Mapping[str, Any]]  # an epoch each

    @property
    def settings(self) -> Mapping[str, Any]:
        """The run's settings."""
        settings: Mapping[str, Any] = self.about["config"]
        return settings

    @property
    def best(self) -> Mapping[str, Any] | None:
        """The row of the network that best.pth holds, where a mAP has chosen it."""
        rows = [row for row in self.rows if row.get("mAP") is not None]
        return max(rows, key=lambda row: row["mAP"], default=None)


def read_run(folder: str | Path) -> Run:
    """Reads a run's folder.

    Raises:
        FileNotFoundError, ValueError: it is none, or its config.json is damaged.
    """
    folder = Path(folder)
    path = folder / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; give the folder of a run, e.g. logs/NAME")
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(about["config"], dict):
            raise TypeError("config")
        if missing := {*NEEDED} - {*about["config"]}:
            raise LookupError(*missing)
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{path}: not what a training writes; give a run's folder") from error
    return Run(folder.resolve().name, about, read_metrics(folder / METRICS))


def run_page(runs: Sequence[Run], view: View | None = None) -> Page:
    """The page.

    Args:
        runs: one, or several to be compared; each name occurs once.
        view: what their networks detect; without it the page has no pictures.
    """
    page = Page(
        " · ".join(run.name for run in runs),
        f"{len(runs)} runs side by side" if len(runs) > 1 else kind_of(runs[0]),
    )
    page.verdict("; ".join(verdict(run) for run in runs))
    add_runs(page, runs, view)
    return page


def add_runs(page: Page, runs: Sequence[Run], view: View | None = None) -> None:
    """Adds to a page all that is known of some runs; see `run_page`."""
    page.section("", *(figures_of(run) for run in runs if len(runs) == 1), facts(runs))
    page.section("Curves", grid("charts", charts(runs)))
    if view:
        page.section("Average precision of each class", *precision(view))
        for heading, figures in examples.sections(view):
            note = f"{view.title}; what scores {SHOWN:g} or more."
            page.section(heading, paragraph(note, "faint"), grid("pictures", figures))
    for run in runs:
        rows = [(name, shown(value)) for name, value in run.settings.items()]
        page.section("", folded(f"every setting of {run.name}", table(("", ""), rows, words=2)))


def kind_of(run: Run) -> str:
    """What a run is, in a line."""
    network = run.about.get("backbone", "a network")
    teacher = run.settings.get("teacher")
    return f"{network} distilled from {teacher}" if teacher else f"{network} trained on objects"


def verdict(run: Run) -> str:
    """Which network was kept, and how good it is."""
    done, epochs = (run.rows[-1]["epoch"] if run.rows else 0), run.settings["epochs"]
    state = "" if done >= epochs else f", {done} of {epochs} epochs done"
    split = " ".join(run.settings["val"])
    if run.best is None:
        validated = any("val/loss" in row for row in run.rows)
        why = f"no object in {split}" if validated else "nothing was validated"
        return f"{run.name}: the last network is kept, {why}{state}"
    kept = f"voc07 {100 * run.best['mAP']:.1f} on {split}, kept: epoch {run.best['epoch']}"
    return f"{run.name}: {kept}{state}"


def figures_of(run: Run) -> Markup:
    """The numbers that matter, large."""
    values = {}
    if run.best is not None:
        values["voc07, percent"] = f"{100 * run.best['mAP']:.1f}"
    if "parameters" in run.about:
        values["parameters"] = f"{run.about['parameters'] / 1e6:.2f} M"
        values["GFLOPs an image"] = f"{run.about['gflops']:.2f}"
    if run.rows:
        values["epochs"] = str(run.rows[-1]["epoch"])
        values["training"] = duration(seconds(run))
    return tiles(values)


def facts(runs: Sequence[Run]) -> Markup:
    """What was trained on what, a column a run; what none of them says is left out."""
    described = [fact_of(run) for run in runs]
    names = list(dict.fromkeys(name for one in described for name in one))
    rows = [(name, *(one.get(name, "") for one in described)) for name in names]
    head = ("", *(run.name for run in runs)) if len(runs) > 1 else ("", "")
    return table(head, rows, words=len(head))


def fact_of(run: Run) -> dict[str, str]:
    """What was trained on what, by name; empty entries are left out."""
    about, settings = run.about, run.settings
    origin = about.get("provenance", {})
    arithmetic = about.get("arithmetic", {})
    shares = dict(re.findall(r"([\w-]+)\s*=\s*([^\s,=]+)", " ".join(settings.get("share", ()))))
    terms = [f"{100 * float(share):g} % {name}" for name, share in shares.items()]
    for name, value in settings.items():
        if name.endswith("_weight") and value and name.removesuffix("_weight") not in shares:
            terms.append(f"{value:g} {name.removesuffix('_weight')}")
    terms += [text for text in settings.get("distill", ()) if text.partition("(")[0] not in shares]
    images = f" ({about['images']} images)" if "images" in about else ""
    others = about.get("unlabelled", 0)
    chooses = 0 < settings["val_every"] < settings["epochs"]  # or it is the last network
    found = {
        "command": code(origin.get("command", "")) if origin.get("command") else "",
        "network": f"{about.get('backbone', '')}, priors {about.get('layout', '')}",
        "teacher": settings.get("teacher", ""),
        "starts from": starts_from(settings),
        "trained on": " ".join(settings["train"]) + images,
        "without labels": f"{' '.join(settings['unlabelled'])} ({others} images)" if others else "",
        "chosen on": " ".join(settings["val"]) if chooses else "",
        "classes": ", ".join(about.get("class_names", [])),
        "loss": " + ".join(terms),
        "schedule": f"{settings['epochs']} epochs of batches of {settings['batch_size']}, "
        f"{settings['optimizer']}, rate {settings['lr']:g}, {settings['schedule']}",
        "computed in": " on ".join(filter(None, map(arithmetic.get, ("dtype", "device")))),
        "machine": origin.get("device", ""),
        "made by": ", ".join(
            f"{name} {origin[name]}" for name in ("torch", "commit") if origin.get(name)
        ),
    }
    return {name: text for name, text in found.items() if text}


def starts_from(settings: Mapping[str, Any]) -> str:
    """Where the weights come from before the first step."""
    if settings.get("weights"):
        return str(settings["weights"])
    return "ImageNet weights" if settings.get("pretrained") else "scratch"


def seconds(run: Run) -> float:
    """How long the steps of a run took, from its pace; validations are not in it."""
    batch, images = run.settings["batch_size"], int(run.about.get("images", 0))
    an_epoch = batch * int(run.about.get("steps_per_epoch", images // batch))
    paces = [float(row["images_per_second"]) for row in run.rows if row.get("images_per_second")]
    return sum((an_epoch / pace for pace in paces), 0.0)


def charts(runs: Sequence[Run]) -> list[Markup]:
    """A chart for each reading, with the series of all runs."""
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for run in runs:
        prefix = f"{run.name}, " if len(runs) > 1 else ""
        for title, series in curves(run.rows).items():
            for name, points in series.items():
                panels.setdefault(title, {})[prefix + name] = [(float(x), y) for x, y in points]
    return [lines(title, series, x_label="epoch") for title, series in panels.items()]


def shown(value: object) -> str:
    """A setting as people write it."""
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
