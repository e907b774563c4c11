"""The loop, with a toy task: it must not need to know what it trains."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from utils.boxes import Detections, Targets
from utils.config import TrainConfig
from utils.data.augment import augment
from utils.data.store import Store
from utils.data.voc import read_classes, read_split
from utils.engine.evaluation import evaluate
from utils.engine.fit import train_epochs
from utils.engine.interrupts import Stopped
from utils.engine.ledger import gradient_shares
from utils.engine.runs.checkpoint import save_checkpoint
from utils.engine.runs.files import RunFiles, facts
from utils.engine.runs.log import read_metrics, read_rows
from utils.engine.runs.resume import resume
from utils.engine.stores import describe_data
from utils.engine.task import Task
from utils.engine.terminal import Stage
from utils.engine.trainer import Trainer
from utils.metrics.evaluator import Evaluator
from utils.runtime.device import Precision

CPU = torch.device("cpu")
CONFIG = TrainConfig(
    val=("VOC2007/val",), epochs=2, batch_size=3, recipe="paper", lr=0.1, val_every=1, device="cpu"
)


class Brightness(Task):
    """Learns the mean brightness of images; detects every object of the first image, perfectly."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.model: nn.Module = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 1, 1))
        self.weights = {"error": 2.0}
        self.scale = scale
        self.frozen: list[bool] = []
        self.seen: list[Tensor] = []
        self.rows: list[Tensor | None] = []
        self.unlabelled: list[Tensor | None] = []
        self.progressed: list[float] = []

    def forward(
        self,
        images: Tensor,
        targets: Targets,
        rows: Tensor | None = None,
        said: Tensor | None = None,
        unlabelled: Tensor | None = None,
        ledger: bool = False,
        divisor: Tensor | None = None,
    ) -> dict[str, Tensor]:
        assert divisor is None
        assert said is None
        self.unlabelled.append(unlabelled)
        self.seen.append(images)
        self.rows.append(rows)
        self.progressed.append(self.progress.item())
        maps = self.model(images)
        error = (maps.mean() - images.mean() / 255).square() * self.scale
        terms = {"loss": 2.0 * error, "error": error, "positives": (targets.labels > 0).sum()}
        return terms | (gradient_shares(terms, self.weights, [maps]) if ledger else {})

    def evaluate(self, images: Tensor, targets: Targets) -> tuple[dict[str, Tensor], Detections]:
        scores = (targets.labels > 0).float()
        return self(images, targets), Detections(targets.boxes, scores, targets.labels)

    def freeze_backbone(self, frozen: bool) -> None:
        self.frozen.append(frozen)


@pytest.fixture
def names(drawn: Path) -> tuple[str, ...]:
    return read_classes(drawn / "VOC2007/classes.txt")


@pytest.fixture
def store(drawn: Path, names: tuple[str, ...]) -> Store:
    samples, _ = read_split(drawn, ["VOC2007/train"], names)
    return Store(samples, CPU, difficult="train")


def trainer(store: Store, config: TrainConfig = CONFIG, scale: float = 1.0) -> Trainer:
    torch.manual_seed(0)
    return Trainer(Brightness(scale), store, config, Precision(CPU))


def train(
    run: Trainer,
    validation: Store | None,
    names: Sequence[str],
    description: dict[str, Any],
    folder: Path,
) -> None:
    """A run of its own, from where `run` is to the end."""
    train_epochs(run, validation, names, {**description, **facts(run)}, folder, Stage("network"))


def test_what_a_run_trains_on_is_said(store: Store) -> None:
    config = replace(CONFIG, train=("A/train", "B/train"))
    said = describe_data(config, store, store)
    assert said.startswith("A/train B/train: 8 images, in memory (0.00 of ")
    assert said.endswith("; validation VOC2007/val: 8")
    assert describe_data(replace(config, val=()), store, None).endswith("; validation: none")


def test_a_compiled_run_augments_on_a_cpu_as_every_run_does(store: Store) -> None:
    compiled = trainer(store, replace(CONFIG, compile=True))
    assert compiled.augment is augment  # OpenCV has nothing to compile


def test_a_perfect_detector_has_map_1(store: Store, names: tuple[str, ...]) -> None:
    evaluator = Evaluator(names)
    means = evaluate(Brightness().eval().evaluate, store, evaluator, Precision(CPU), 3)
    assert evaluator.result("voc07").mean == pytest.approx(1.0)
    assert means["images_per_second"] > 0


def test_validation_means_are_weighted_by_positives(store: Store, names: tuple[str, ...]) -> None:
    task = Brightness().eval()
    means = evaluate(task.evaluate, store, Evaluator(names), Precision(CPU), 3)
    total = count = 0.0
    for start in range(0, 8, 3):  # three batches, the last one smaller
        images = task.seen[start // 3]
        with torch.inference_mode():
            error = float((task.model(images).mean() - images.mean() / 255).square())
        # The last batch of this set has no objects and weighs as one positive.
        positives = max(1.0, float((store.targets.labels[start : start + 3] > 0).sum()))
        total, count = total + error * positives, count + positives
    assert means["error"] == pytest.approx(total / count, rel=1e-4)
    assert means["loss"] == pytest.approx(2 * means["error"], rel=1e-5)


def test_fit_writes_a_run_and_keeps_the_best(
    store: Store, names: tuple[str, ...], tmp_path: Path
) -> None:
    run = trainer(store)
    train(run, store, names, {"backbone": "toy"}, tmp_path)
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [row["epoch"] for row in rows] == [1, 2]
    for row in rows:
        assert row["train/loss"] == pytest.approx(2 * row["train/error"], rel=1e-5)
        assert row["val/loss"] == pytest.approx(2 * row["val/error"], rel=1e-5)
    best = torch.load(tmp_path / "best.pth", weights_only=True)
    assert best["backbone"] == "toy"
    assert best["metrics"]["mAP"] == pytest.approx(1.0)
    last = torch.load(tmp_path / "last.pth", weights_only=True)
    assert last["training"]["epoch"] == 2
    assert {"config.json", "curves.png"} <= {path.name for path in tmp_path.iterdir()}


def test_every_few_steps_have_a_row(store: Store, names: tuple[str, ...], tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=3, log_every=2, clip_norm=0.1, lr=0.01)
    for every, steps in ((1, [1, 2, 3, 4, 5, 6]), (2, [2, 4, 6]), (4, [4]), (9, [])):
        folder = tmp_path / str(every)
        train(trainer(store, replace(config, log_every=every)), None, names, {}, folder)
        rows = [row for row in read_rows(folder / "metrics.jsonl") if "step" in row]
        assert [row["step"] for row in rows] == steps
        assert [row["epoch"] for row in rows] == [(step + 1) // 2 for step in steps]
        assert all(row["step/images_per_second"] > 0 for row in rows)
        assert all(row["step/clipped"] in (0, 1) for row in rows)
    rows = read_rows(tmp_path / "1/metrics.jsonl")
    for first, second, epoch in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
        for name in ("loss", "error", "grad_norm"):  # an epoch's value is the mean of its steps
            mean = (first[f"step/{name}"] + second[f"step/{name}"]) / 2
            assert epoch[f"train/{name}"] == pytest.approx(mean, rel=1e-6)
        assert epoch["lr"] == second["step/lr"]
    # The rate that each step had: it falls after four and after five of the six.
    found = [row["step/lr"] for row in rows if "step" in row]
    assert found == pytest.approx([0.01] * 4 + [0.001, 0.0001])


def test_the_ledger_is_written_and_changes_nothing(
    store: Store, names: tuple[str, ...], tmp_path: Path
) -> None:
    runs = {}
    for every in (0, 1):
        config = replace(CONFIG, ledger_every=every)
        runs[every] = trainer(store, config)
        train(runs[every], None, names, {"backbone": "toy"}, tmp_path / str(every))
    for a, b in zip(*(run.task.parameters() for run in runs.values()), strict=True):
        assert torch.equal(a, b)
    rows = read_metrics(tmp_path / "1/metrics.jsonl")
    assert [row["ledger/share/error"] for row in rows] == [1.0, 1.0]
    for row in rows:  # a single term of weight 2: what it adds is the total
        assert row["ledger/weighted/error"] == pytest.approx(row["train/loss"], rel=1e-6)
    assert "ledger/share/error" not in read_metrics(tmp_path / "0/metrics.jsonl")[0]


def test_the_ledger_is_kept_from_the_first_step_of_each_epoch_on(store: Store) -> None:
    run = trainer(store, replace(CONFIG, epochs=3, ledger_every=3))
    kept = []
    for _ in range(3):  # of two steps each
        run.train_steps()
        kept.append(run.ledger.steps)
        run.next_epoch()
    assert kept == [1, 1, 1]


def test_weights_follow_often_at_first_and_rarely_later(store: Store) -> None:
    trainer = Trainer(Brightness(), store, CONFIG, Precision(CPU))
    trainer.steps_per_epoch = 10_000

    def followed(*steps: int) -> list[int]:
        found = []
        for trainer.position in range(*steps):
            found += [trainer.position] * trainer.early
        return found

    assert followed(2000) == []
    trainer.task.shares = {"error": 0.5}
    assert followed(33) == [*range(8), 8, 10, 12, 14, 16, 20, 24, 28, 32]
    assert followed(512, 1024) == list(range(512, 1024, 4))
    assert len(followed(1024, 2048)) == len(followed(4096, 8192)) == 128


def test_the_written_total_is_what_is_optimised(
    store: Store, tmp_path: Path, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trainer(store)
    optimised: list[float] = []
    scale = run.scaler.scale

    def recorded(loss: Tensor) -> Tensor:
        optimised.append(float(loss.detach()))
        return scale(loss)

    monkeypatch.setattr(run.scaler, "scale", recorded)
    train(run, None, names, {"backbone": "toy"}, tmp_path)
    steps = run.steps_per_epoch
    for i, row in enumerate(read_metrics(tmp_path / "metrics.jsonl")):
        mean = sum(optimised[i * steps : (i + 1) * steps]) / steps
        assert row["train/loss"] == pytest.approx(mean, rel=1e-6)
        weighted = [value for key, value in row.items() if key.startswith("ledger/weighted/")]
        assert sum(weighted) == pytest.approx(mean, rel=1e-6)


def test_the_order_and_the_augmentation_depend_on_seed_and_epoch_alone(store: Store) -> None:
    first, second = trainer(store), trainer(store)
    first.train_one_epoch()
    second.train_one_epoch()
    for a, b in zip(first.task.seen, second.task.seen, strict=True):
        assert torch.equal(a, b)
    assert len(first.task.seen) == 2  # 8 images in batches of 3; the incomplete one is left out
    first.train_one_epoch()
    assert not torch.equal(first.task.seen[0], first.task.seen[2])
    other = trainer(store, replace(CONFIG, seed=1))
    other.train_one_epoch()
    assert not torch.equal(first.task.seen[0], other.task.seen[0])


def test_a_task_is_told_each_images_number_and_the_progress(store: Store) -> None:
    runs = [trainer(store, replace(CONFIG, batch_size=size)) for size in (3, 2)]
    found = []
    for run in runs:
        order = torch.cat([run.order.indices(step) for step in range(run.steps_per_epoch)])
        run.train_one_epoch()
        found.append(dict(zip(order.tolist(), torch.cat(run.task.rows).tolist(), strict=True)))
    together = found[0].keys() & found[1].keys()
    assert len(together) >= 5
    # In whichever batch an image is, its number is the same; all are different.
    assert all(found[0][i] == found[1][i] for i in together)
    assert len(set(found[1].values())) == len(found[1])
    first = runs[0]
    first.train_one_epoch()
    other = trainer(store, replace(CONFIG, seed=1))
    other.train_one_epoch()
    sets = [set(torch.cat(rows).tolist()) for rows in (first.task.rows[2:], other.task.rows)]
    assert not sets[0] & sets[1]
    assert not set(found[0].values()) & (sets[0] | sets[1])
    assert first.task.progressed == [0, 0.25, 0.5, 0.75]  # 2 epochs of 2 steps
    first.validate(store, Evaluator([str(i) for i in range(10)]))
    assert first.task.progressed[-1] == 1


def test_the_backbone_is_frozen_for_as_long_as_asked(store: Store) -> None:
    run = trainer(store, replace(CONFIG, freeze_epochs=1))
    run.train_one_epoch()
    run.train_one_epoch()
    assert run.task.frozen == [True, False]


def test_gradients_are_clipped(store: Store) -> None:
    config = replace(CONFIG, clip_norm=0.001, lr=1.0, momentum=0.0, weight_decay=0.0)
    run = trainer(store, config, scale=1e6)
    before = torch.cat([p.detach().flatten() for p in run.task.parameters()])
    means = run.train_one_epoch()
    assert means["clipped"] == 1
    assert means["grad_norm"] > 0.001
    after = torch.cat([p.detach().flatten() for p in run.task.parameters()])
    assert 0 < float((after - before).norm()) <= 2 * 0.001 * 1.01  # two steps, rate 1


def in_fp16(store: Store, scale: float) -> Trainer:
    """A trainer whose gradients are multiplied by `scale` until they overflow, then by 1 / 4."""
    run = Trainer(trainer(store).task, store, CONFIG, Precision(CPU, torch.float16))
    run.scaler = torch.GradScaler("cpu", init_scale=scale, backoff_factor=0.25 / scale)
    return run


def test_the_norm_is_that_of_the_unscaled_gradient(store: Store) -> None:
    means = in_fp16(store, 64.0).train_one_epoch()
    assert means["skipped"] == 0
    assert means["grad_norm"] == pytest.approx(trainer(store).train_one_epoch()["grad_norm"], 0.05)


def test_a_step_that_fp16_skips_leaves_the_mean_norm_alone(store: Store) -> None:
    run = in_fp16(store, 1.0)
    first = run.train_one_epoch()["grad_norm"]
    run.scaler = in_fp16(store, 2.0**60).scaler
    means = run.train_one_epoch()
    assert means["skipped"] == 0.5  # one of two steps
    assert 0 < means["grad_norm"] < 2 * first


def test_a_run_goes_on_in_another_arithmetic(store: Store) -> None:
    plain, half = trainer(store), in_fp16(store, 64.0)
    half.load_state_dict(plain.state_dict())
    assert half.scaler.get_scale() == 64.0
    plain.load_state_dict(half.state_dict())
    half.load_state_dict(in_fp16(store, 8.0).state_dict())
    assert half.scaler.get_scale() == 8.0


def test_a_gradient_that_is_not_finite_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trainer(store)
    monkeypatch.setattr(run.scaler, "scale", lambda loss: loss * float("inf"))
    with pytest.raises(FloatingPointError, match="the gradient of the loss is not finite shortly"):
        run.train_one_epoch()


def test_the_average_is_validated_and_kept(
    store: Store, names: tuple[str, ...], tmp_path: Path
) -> None:
    run = trainer(store, replace(CONFIG, ema=0.9))
    train(run, store, names, {}, tmp_path)
    best = torch.load(tmp_path / "last.pth", weights_only=True)
    kept, trained = best["model"]["1.weight"], run.task.model[1].weight
    assert torch.equal(kept, run.model[1].weight)
    assert not torch.equal(kept, trained)


def test_a_run_without_validation_keeps_its_last_network(
    store: Store, names: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trainer(store, replace(CONFIG, val=()))
    train(run, None, names, {}, tmp_path)
    best = torch.load(tmp_path / "best.pth", weights_only=True)
    assert torch.equal(best["model"]["1.weight"], run.model[1].weight)
    assert "mAP" not in read_metrics(tmp_path / "metrics.jsonl")[-1]
    line = "kept: the last network (no validation split was named)\n"
    assert capsys.readouterr().out.endswith(line)


@pytest.mark.parametrize(
    ("scores", "kept", "line"),
    [
        ([0.25, 0.5, 0.5], 2, "kept: epoch 2, best voc07 50.0 on VOC2007/val"),
        ([0.5, 0.25, 0.25], 1, "kept: epoch 1, best voc07 50.0 on VOC2007/val"),
        ([None, None, 0.25], 3, "kept: epoch 3, the only voc07 25.0 on VOC2007/val"),
        ([math.nan] * 3, 3, "kept: the last network (no object in VOC2007/val)"),
    ],
)
def test_a_run_ends_with_which_network_it_has_kept(
    scores: list[float | None],
    kept: int,
    line: str,
    store: Store,
    names: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = iter(score for score in scores if score is not None)
    monkeypatch.setattr(Trainer, "validate", lambda *_: {"loss": 1.0, "mAP": next(given)})
    every = 0 if None in scores else 1
    run = trainer(store, replace(CONFIG, epochs=3, val_every=every))
    train(run, store, names, {}, tmp_path)
    assert capsys.readouterr().out.splitlines()[-1] == line
    rows = read_metrics(tmp_path / "metrics.jsonl")
    best = torch.load(tmp_path / "best.pth", weights_only=True)["metrics"]
    assert best["train/loss"] == rows[kept - 1]["train/loss"]


@pytest.mark.parametrize(
    ("scores", "patience", "epochs"),
    [
        ([0.1, 0.5, 0.4, 0.5, 0.6, 0.6], 2, 4),  # the second 0.5 is no better
        ([0.1, 0.5, 0.4, 0.6, 0.3, 0.2], 2, 6),  # that is the end of the schedule, too
        ([0.3, 0.2, 0.4, 0.4, 0.4, 0.4], 1, 2),
        ([0.3, 0.2, 0.1, 0.1, 0.1, 0.1], 0, 6),
        ([math.nan, math.nan, 0.1, 0.1, 0.1, 0.1], 2, 5),  # without an object nothing is said
    ],
)
@pytest.mark.parametrize("stopped_after", [0, 2])
def test_patience(
    scores: list[float],
    patience: int,
    epochs: int,
    stopped_after: int,
    store: Store,
    names: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = replace(CONFIG, epochs=6, val_every=1, patience=patience)
    score = lambda run, *_: {"loss": 1.0, "mAP": scores[run.epoch]}  # noqa: E731
    monkeypatch.setattr(Trainer, "validate", score)
    monkeypatch.setattr(RunFiles, "draw_first_batch", lambda *_: None)
    monkeypatch.setattr(RunFiles, "draw", lambda files, _: stop_at(files, stopped_after))
    if stopped_after:
        with pytest.raises(Stopped):
            train(trainer(store, config), store, names, {}, tmp_path)
    monkeypatch.setattr(RunFiles, "draw", lambda *_: None)
    for _ in range(2):  # once it has ended, resuming changes nothing
        run = trainer(store, config)
        if (tmp_path / "last.pth").exists():
            resume(run, tmp_path, {})
        train(run, store, names, {}, tmp_path)
        assert run.epoch == len(read_metrics(tmp_path / "metrics.jsonl")) == epochs
        last = capsys.readouterr().out.splitlines()[-1]
        early = f"; ended after {epochs} of 6 epochs, for {patience} validation"
        assert (early in last) == (epochs < 6)
    # The schedule is that of six epochs: the rates of one that goes on to their end.
    whole = trainer(store, replace(config, patience=0))
    train(whole, store, names, {}, tmp_path / "whole")
    rates = [
        [row["lr"] for row in read_metrics(f / "metrics.jsonl")]
        for f in (tmp_path, tmp_path / "whole")
    ]
    assert rates[0] == rates[1][:epochs]


def stop_at(files: RunFiles, epochs: int) -> None:
    """Where a signal may end a run: everything is saved."""
    if files.trainer.epoch == epochs:
        raise Stopped(2, "")


def test_the_first_batch_is_drawn(store: Store, names: tuple[str, ...], tmp_path: Path) -> None:
    run = trainer(store)
    train(run, None, names, {}, tmp_path)
    with Image.open(tmp_path / "batch.png") as image:
        picture = np.asarray(image.convert("RGB"))
    assert picture.shape == (304, 4 * 304, 3)  # three images, and the place of a fourth
    assert (picture[:, 3 * 304 :] == 255).all()
    # Outside of lines and labels it is what the network saw first.
    seen = run.task.seen[0].clamp(0, 255).round().permute(0, 2, 3, 1)
    drawn = np.stack([picture[2:302, 304 * i + 2 : 304 * i + 302] for i in range(3)])
    assert 0 < (drawn != seen.byte().numpy()).any(-1).mean() < 0.5


def test_resuming_another_network_is_refused(
    store: Store, names: tuple[str, ...], tmp_path: Path
) -> None:
    train(trainer(store), None, names, {"backbone": "toy"}, tmp_path)
    with pytest.raises(ValueError, match=r"last\.pth: its backbone is 'toy', this run's 'other'"):
        resume(trainer(store), tmp_path, {"backbone": "other"})
    with pytest.raises(ValueError, match="its optimizer is 'sgd', this run's 'adamw'; resume with"):
        resume(trainer(store, replace(CONFIG, optimizer="adamw")), tmp_path, {"backbone": "toy"})
    other = trainer(store)
    other.task.model[1] = nn.Conv2d(3, 2, 1)
    with pytest.raises(ValueError, match="does not fit these settings"):
        resume(other, tmp_path, {"backbone": "toy"})
    elsewhere = replace(CONFIG, workers=7, val_every=5)  # where and how, not what is computed
    resume(trainer(store, elsewhere), tmp_path, {"backbone": "toy"})


@pytest.mark.parametrize(
    ("gone", "came", "config", "message"),
    [
        ("clip_norm", {}, CONFIG, ""),  # had what is the default
        ("val_every", {"preflight": 7}, CONFIG, ""),  # free to differ, whoever knows them
        ("clip_norm", {}, replace(CONFIG, clip_norm=5), "its clip_norm is 0.0, this run's 5"),
        ("batch_size", {}, CONFIG, "its batch_size is 32, this run's 3"),
        ("", {"bells": [1]}, CONFIG, r"its bells is \[1\], this run has no such setting; resume"),
        ("", {"teacher": "t.pth"}, CONFIG, "its teacher is 't.pth', this run has no such setting"),
    ],
)
def test_settings_that_came_or_went_since_a_run_was_started(
    gone: str,
    came: dict[str, object],
    config: TrainConfig,
    message: str,
    store: Store,
    names: tuple[str, ...],
    tmp_path: Path,
) -> None:
    train(trainer(store), None, names, {"backbone": "toy"}, tmp_path)
    content = torch.load(tmp_path / "last.pth", weights_only=True)
    content["config"].pop(gone, None)
    content["config"] |= came
    save_checkpoint(tmp_path / "last.pth", content)
    run = trainer(store, config)
    if message:
        with pytest.raises(ValueError, match=message):
            resume(run, tmp_path, {"backbone": "toy"})
    else:
        resume(run, tmp_path, {"backbone": "toy"})
        assert run.epoch == 2
