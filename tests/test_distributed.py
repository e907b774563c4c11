"""Several processes do what one does: the same weights, the same metrics, one voice."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from nets.backbones import BACKBONES
from nets.tasks.building import build_network
from tests.soak.launcher import ROOT, Launcher, Plain, Request
from tests.soak.test_soak import difference, outcome
from utils.config import TrainConfig
from utils.engine.runs.folder import goes_on, run_folder
from utils.engine.runs.log import read_metrics
from utils.runtime import distributed

SMALL = ["--backbone", "resnet18(width=0.125)"]


def request(devkit: Path, logs: Path, name: str, *extra: object) -> Request:
    """A training of a network without batch norm: twelve steps of four images in six epochs.

    The backbone joins in the third: from then on other gradients are averaged.
    """
    words: list[object] = ["--data", devkit, "--train", "VOC2007/train", "--val", "VOC2007/val"]
    words += ["--classes", devkit / "VOC2007/classes.txt", "--logs", logs, "--name", name]
    words += ["--backbone", "plain", "--no-pretrained", "--epochs", "6", "--batch-size", "4"]
    words += ["--workers", "1", "--device", "cpu", "--ema", "0.9", "--val-every", "0"]
    # SGD, whose steps are as close as the gradients are.
    words += ["--recipe", "paper", "--lr", "0.01", "--freeze-epochs", "2", *extra]
    return Request("train_teacher", [str(word) for word in words], str(logs / f"{name}.err"))


def errors(of: Request) -> list[str]:
    """The lines that the processes wrote to standard error."""
    return Path(of.stderr).read_text().splitlines()


def largest_difference(a: Any, b: Any) -> float:
    """Over all numbers of two equal structures."""
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        return max((largest_difference(a[key], b[key]) for key in a), default=0.0)
    if isinstance(a, list | tuple):
        assert len(a) == len(b)
        return max(map(largest_difference, a, b), default=0.0)
    if isinstance(a, torch.Tensor):
        return float((a.double() - b.double()).abs().max()) if a.numel() else 0.0
    return abs(a - b) if isinstance(a, int | float) and a != b else 0.0


@pytest.fixture(scope="module")
def trained(drawn: Path, launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs `one` and `two`, named after the processes that trained them."""
    logs = tmp_path_factory.mktemp("logs")
    for processes, name in ((1, "one"), (2, "two")):
        run = request(drawn, logs, name)
        assert launcher(replace(run, processes=processes)).status == [0] * processes, errors(run)
        assert errors(run) == []
    return logs


def test_two_processes_train_the_weights_of_one(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (outcome(trained / name) for name in ("one", "two"))
    for part in ("task", "average", "optimizer"):
        found = largest_difference(one["training"][part], two["training"][part])
        print(f"largest difference of {part}: {found:.1e}")
        assert found < (1e-4 if part == "optimizer" else 1e-6)  # sums of gradients of length 10
    monkeypatch.setitem(BACKBONES, "plain", Plain)
    start = build_network(TrainConfig(backbone="plain", pretrained=False), one["names"])
    for name, value in start.named_parameters():
        moved = (two["model"][name] - value).abs().max()
        assert moved > 1e-5, name  # every one of them has been trained


def test_two_processes_report_the_metrics_of_one(trained: Path) -> None:
    one, two = (read_metrics(trained / name / "metrics.jsonl") for name in ("one", "two"))
    assert [row["epoch"] for row in two] == [1, 2, 3, 4, 5, 6]
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys()
        assert a["train/positives"] == b["train/positives"]  # a count is a sum, not a mean
        for key in a.keys() - {"images_per_second", "val/images_per_second"}:
            assert a[key] == pytest.approx(b[key], rel=1e-5), key


def test_processes_really_had_different_numbers_of_objects(drawn: Path) -> None:
    from utils.data.store import Store
    from utils.data.voc import read_classes, read_split

    names = read_classes(drawn / "VOC2007/classes.txt")
    samples, _ = read_split(drawn, ["VOC2007/train"], names)
    counts = Store(samples, torch.device("cpu")).counts
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))  # of the first epoch
    halves = counts[order].view(2, 2, 2).sum(2)  # step, process
    assert (halves[:, 0] != halves[:, 1]).any(), halves


def test_two_processes_distil_the_weights_of_one(
    trained: Path, drawn: Path, launcher: Launcher, tmp_path: Path
) -> None:
    # cwd has an adapter without a gradient: that of the map of a single cell.
    extra = ["--teacher", trained / "one/best.pth", "--distill", "cwd(weight=3)", "attention"]
    extra += ["mgd", "crosskd(weight=0.001)", "--kd-schedule", "cosine"]
    extra += ["--preset", "tutorial", "--epochs", "2", "--freeze-epochs", "1"]
    extra += ["--share", "soft=0.3, mgd=0.2", "--ledger-every", "1", "--lr", "0.0003"]
    states = []
    for processes, name in ((1, "one"), (2, "two")):
        run = replace(request(drawn, tmp_path, name, *extra), script="train_kd")
        assert launcher(replace(run, processes=processes)).status == [0] * processes, errors(run)
        states.append(outcome(tmp_path / name)["training"]["task"])
    assert any("distillers.cwd.adapters.5" in name for name in states[0])
    logs = [state.pop("loudness.logs") for state in states]
    assert largest_difference(*logs) < 1e-5  # logarithms of weights around 1000
    assert states[0]["loudness.heard"].min() > 0
    found = largest_difference(*states)
    print(f"largest difference of a distilled task: {found:.1e}")
    assert found < 1e-6


def test_processes_look_at_the_teacher_together_or_not_at_all(
    trained: Path, drawn: Path, launcher: Launcher, tmp_path: Path
) -> None:
    # Six images in batches of four: the memo of the first run lacks two of them.
    memo = ["--teacher", trained / "one/best.pth", "--teacher-views", "1", "--memo", tmp_path]
    memo += ["--train", "VOC2007/test", "--epochs", "1", "--freeze-epochs", "0"]
    first = request(drawn, tmp_path, "first", *memo, "--no-preflight")
    assert launcher(replace(first, script="train_kd")).status == [0], errors(first)
    for seed in (1, 2, 3):  # with some of which one process has to ask, and the other has not
        run = request(drawn, tmp_path, f"seed-{seed}", *memo, "--seed", seed)
        run = replace(run, script="train_kd", processes=2, kill_after=60)
        assert launcher(run).status == [0, 0], errors(run)


def test_map_of_several_processes_is_that_of_one(
    trained: Path, drawn: Path, launcher: Launcher, tmp_path: Path
) -> None:
    reports = []
    for processes in (1, 3):  # four images in batches of two: the third process has nothing
        out = tmp_path / f"{processes}.json"
        words = ["--weights", trained / "one/best.pth", "--data", drawn, "--split", "VOC2007/val"]
        words += ["--batch-size", "2", "--json", out, "--device", "cpu"]
        run = Request("get_map", [str(w) for w in words], str(tmp_path / "err"), processes)
        assert launcher(run).status == [0] * processes, errors(run)
        report = json.loads(out.read_text())
        assert report.pop("images_per_second") > 0
        reports.append(report)
    assert reports[0] == reports[1]  # to the last digit
    assert reports[0]["images"] == 4


def test_a_batch_that_cannot_be_shared_is_one_line(
    drawn: Path, launcher: Launcher, tmp_path: Path
) -> None:
    run = replace(request(drawn, tmp_path, "odd", "--batch-size", "3"), processes=2)
    assert 0 not in launcher(run).status
    (line,) = errors(run)
    assert "--batch-size 3 does not divide by the 2 processes that share it" in line
    run = replace(request(drawn, tmp_path, "flag", "--epoch", "3"), processes=2)
    assert 0 not in launcher(run).status
    (line,) = errors(run)
    assert "unrecognized arguments: --epoch 3" in line


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_fails_ends_all_with_its_own_error(
    rank: int, drawn: Path, launcher: Launcher, tmp_path: Path
) -> None:
    run = request(drawn, tmp_path, "failing")
    answer = launcher(replace(run, processes=2, event="ValueError", rank=rank, step=2))
    assert answer.status[rank] == 2
    assert answer.status[1 - rank] == 1
    assert answer.seconds < 20
    line, *rest = errors(run)
    assert not rest
    assert line.endswith(f"process {rank} has had enough")


def test_a_killed_process_ends_the_others(drawn: Path, launcher: Launcher, tmp_path: Path) -> None:
    run = request(drawn, tmp_path, "killed", "--save-every", "1")
    answer = launcher(replace(run, processes=2, event="SIGKILL", rank=1, step=3))
    assert answer.status == [2, -signal.SIGKILL]
    (line,) = errors(run)
    assert "another process of this run has ended without a word" in line
    assert "the same command with --resume goes on from the last save" in line
    state = torch.load(tmp_path / "killed/last.pth", weights_only=True)["training"]
    assert (state["epoch"], state["position"]) == (1, 0)
    resumed = replace(run, processes=2, arguments=[*run.arguments, "--resume"])
    assert launcher(resumed).status == [0, 0], errors(run)


def test_a_signal_to_one_process_stops_and_saves_all(
    trained: Path, drawn: Path, launcher: Launcher, tmp_path: Path
) -> None:
    run = request(drawn, tmp_path, "stopped")
    answer = launcher(replace(run, processes=2, event="SIGTERM", rank=1, step=3))
    assert 128 + signal.SIGTERM in answer.status
    (line,) = errors(run)
    assert "stopped by SIGTERM; the same command with --resume goes on from" in line
    state = torch.load(tmp_path / "stopped/last.pth", weights_only=True)["training"]
    assert (state["epoch"], state["position"]) == (1, 1)
    resumed = replace(run, processes=2, arguments=[*run.arguments, "--resume"])
    assert launcher(resumed).status == [0, 0], errors(run)
    assert difference(outcome(tmp_path / "stopped"), outcome(trained / "two")) == ""


@pytest.fixture(scope="module")
def in_bf16(drawn: Path, launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of what two processes train with `--amp bf16`."""
    logs = tmp_path_factory.mktemp("logs")
    run = replace(request(drawn, logs, "bf16", "--amp", "bf16"), processes=2)
    assert launcher(run).status == [0, 0], errors(run)
    return logs / "bf16"


@pytest.mark.parametrize(
    ("gains", "dtype"),
    # The main one measures for all; what one does not have, none uses.
    [((1.4, 0.5), "bfloat16"), ((0.5, 1.4), "float32"), ((1.4, 0), "float32")],
)
def test_processes_agree_on_their_arithmetic(
    gains: tuple[float, ...],
    dtype: str,
    trained: Path,
    in_bf16: Path,
    drawn: Path,
    launcher: Launcher,
    tmp_path: Path,
) -> None:
    run = replace(request(drawn, tmp_path, "auto"), processes=2, gains=gains)
    assert launcher(run).status == [0, 0], errors(run)
    record = torch.load(tmp_path / "auto/last.pth", weights_only=True)["arithmetic"]
    assert record == {"device": "cpu", "dtype": dtype}
    # Weights follow from the arithmetic of both.
    same, other = (trained / "two", in_bf16)[:: -1 if dtype == "bfloat16" else 1]
    assert difference(outcome(tmp_path / "auto"), outcome(same)) == ""
    assert difference(outcome(tmp_path / "auto"), outcome(other)) != ""


def test_processes_go_on_in_bf16(
    in_bf16: Path, drawn: Path, launcher: Launcher, tmp_path: Path
) -> None:
    run = replace(request(drawn, tmp_path, "stopped"), processes=2, gains=(1.4, 1.4))
    answer = launcher(replace(run, event="SIGTERM", rank=1, step=3))
    assert 128 + signal.SIGTERM in answer.status
    # What is measured now does not count.
    resumed = replace(run, arguments=[*run.arguments, "--resume"], gains=(0.5, 0.5))
    assert launcher(resumed).status == [0, 0], errors(run)
    assert difference(outcome(tmp_path / "stopped"), outcome(in_bf16)) == ""


def test_a_run_in_bf16_goes_on_to_the_same_weights(
    drawn: Path, launcher: Launcher, tmp_path: Path
) -> None:
    words = ["--backbone", "mobilenetv2(width=0.1)", "--amp", "bf16"]
    words += ["--epochs", "2", "--freeze-epochs", "0"]
    runs = {name: request(drawn, tmp_path, name, *words) for name in ("whole", "stopped")}
    assert launcher(runs["whole"]).status == [0], errors(runs["whole"])
    stopped = runs["stopped"]
    assert launcher(replace(stopped, event="SIGTERM", step=3)).status == [128 + signal.SIGTERM]
    resumed = replace(stopped, arguments=[*stopped.arguments, "--resume"])
    assert launcher(resumed).status == [0], errors(stopped)
    assert difference(outcome(tmp_path / "stopped"), outcome(tmp_path / "whole")) == ""


def test_a_restarted_process_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = TrainConfig(logs=str(tmp_path), name="run")
    settings = json.dumps({"config": dataclasses.asdict(config)})
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert not goes_on(config)  # it failed before it had saved anything
    (tmp_path / "run").mkdir()
    (tmp_path / "run/last.previous.pth").touch()  # killed between two renamings
    (tmp_path / "run/config.json").write_text(settings)
    assert goes_on(config)
    assert run_folder(config) == tmp_path / "run"
    # The first attempt failed because the folder holds another run.
    assert not goes_on(replace(config, epochs=3))
    # Settings that a run decides by itself stand in its files as it has decided.
    config = replace(config, weights="some.pth", backbone="")
    written = {**dataclasses.asdict(config), "backbone": "resnet34", "lr": 0.1}
    (tmp_path / "run/config.json").write_text(json.dumps({"config": written}))
    assert goes_on(config)
    assert not goes_on(replace(config, backbone="resnet18"))
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    assert not goes_on(config)
    with pytest.raises(FileExistsError, match="holds a run already"):
        run_folder(config)


def test_one_process_is_left_alone() -> None:
    value, module = torch.ones(3), torch.nn.Linear(1, 1)
    assert distributed.own_part(value) is not None
    assert torch.equal(distributed.own_part(value), value)
    assert distributed.mean_over_processes(value) is value
    assert distributed.average_gradients(module) is module
    assert distributed.gather("x") == ["x"]
    assert distributed.most_of_processes(-3) == -3
    assert (distributed.rank(), distributed.local_rank(), distributed.is_main()) == (0, 0, True)
    distributed.barrier()


def test_norms_are_synchronised_on_gpus_alone(
    drawn: Path, tmp_path: Path, script: Callable[..., int], one_line: Callable[[], str]
) -> None:
    words = request(drawn, tmp_path, "x", *SMALL, "--sync-bn")
    assert script("train_teacher", *words.arguments) == 2
    assert "--sync-bn works on GPUs only" in one_line()


def test_processes_do_not_meet_those_before_them() -> None:
    store = dist.HashStore()  # survives, as that of torchrun does
    words = set()
    for _ in range(3):
        with ThreadPoolExecutor(2) as pool:
            # The main process comes last: what the others find first is of the time before.
            others = [pool.submit(distributed.meet, store, rank, 3) for rank in (1, 2)]
            time.sleep(0.1)
            assert not any(other.done() for other in others)
            main = distributed.meet(store, 0, 3)
            assert [other.result(timeout=30) for other in others] == [main, main]
        words.add(main)
    assert len(words) == 3


def test_a_main_process_that_does_not_come() -> None:
    store = dist.HashStore()
    store.set("main", "one that has died")
    store.set_timeout(timedelta(seconds=0.1))
    with pytest.raises(ConnectionError, match="main process has not come within"):
        distributed.meet(store, 1, 2)


def test_processes_that_cannot_join_end_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    store = dist.HashStore()
    store.set_timeout(timedelta(seconds=0.1))
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(distributed, "rendezvous", lambda _: iter([(store, 0, 2)]))
    with pytest.raises(ConnectionError, match="another process"), distributed.processes():
        pytest.fail("the other process has never come")

    def refused(*_: object, **__: object) -> None:
        raise RuntimeError("Gloo connectFullMesh failed with [gloo/transport/tcp/pair.cc:152]")

    monkeypatch.setattr(distributed, "meet", lambda *_: "word")
    monkeypatch.setattr(dist, "init_process_group", refused)
    with pytest.raises(ConnectionError, match="another process"), distributed.processes():
        pytest.fail("the other process has gone")


def torchrun(run: Request, *options: str) -> subprocess.Popen[str]:
    """Two processes, started by the real torchrun."""
    # After -- because torchrun takes --logs for an abbreviation of flags of its own.
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", *options]
    return subprocess.Popen(
        [*command, "--standalone", "--", f"{run.script}.py", *run.arguments, "--amp", "off"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_torchrun_starts_again_after_a_kill(drawn: Path, tmp_path: Path) -> None:
    saved = ["--save-every", "1", "--epochs", "4"]
    whole = torchrun(request(drawn, tmp_path, "whole", *SMALL, *saved))
    printed, complaints = whole.communicate(timeout=120)
    assert whole.returncode == 0, complaints
    assert printed.count("written: ") == 1
    killed = torchrun(request(drawn, tmp_path, "killed", *SMALL, *saved), "--max-restarts", "1")
    while not (tmp_path / "killed/last.pth").exists():
        assert killed.poll() is None, killed.communicate()
        time.sleep(0.01)
    children = Path(f"/proc/{killed.pid}/task/{killed.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    _, complaints = killed.communicate(timeout=120)
    assert killed.returncode == 0, complaints
    assert difference(outcome(tmp_path / "killed"), outcome(tmp_path / "whole")) == ""


@pytest.mark.slow
def test_torchrun_passes_a_signal_on(drawn: Path, tmp_path: Path) -> None:
    run = request(drawn, tmp_path, "run", *SMALL, "--save-every", "1", "--epochs", "50")
    started = torchrun(run)
    while not (tmp_path / "run/last.pth").exists():
        assert started.poll() is None, started.communicate()
        time.sleep(0.01)
    started.send_signal(signal.SIGTERM)
    _, complaints = started.communicate(timeout=60)
    assert len(re.findall("train_teacher.py: stopped by SIGTERM", complaints)) == 1
    assert started.returncode != 0
