"""Removes channels from a trained network: a smaller student to be distilled from the whole one.

python -m tools.prune --weights logs/student/best.pth --keep 0.5 --out logs/pruned/best.pth
python train_kd.py --weights logs/pruned/best.pth --teacher logs/student/best.pth --recipe scratch
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from nets.inputs import read_class_names
from nets.multibox_loss import MultiBoxLoss
from nets.saved import check_class_names, describe_network, load_network
from nets.ssd import SSD300
from nets.tasks import DetectionTask
from tools.prune.channels import MEASURES, importances, largest, require_pruning, without
from utils.cli import parse_arguments, run
from utils.config import DataConfig, at_least, flag, option
from utils.data.augment import resize
from utils.data.store import Store, open_store
from utils.engine.runs.checkpoint import is_ours, load_tensors, save_checkpoint
from utils.files import check_file
from utils.runtime.device import choose_device
from utils.show.report import cost


@dataclass(frozen=True)
class PruneConfig(DataConfig):
    """Removes the least important channels of a checkpoint, in equal shares everywhere."""

    weights: str = option("", "checkpoint, e.g. logs/RUN/best.pth")
    out: str = option("", "the checkpoint to write")
    classes: str = option("", "class list; default: the one in the checkpoint")
    keep: float = option(0.0, "share of each layer's channels that stays, e.g. 0.5")
    gflops: float = option(0.0, "instead: keep as many as cost at most this, for one image")
    parameters: float = option(0.0, "instead: keep as many as have at most this many parameters")
    by: str = option("magnitude", "what tells important channels", MEASURES)
    train: tuple[str, ...] = option(("VOC2007/trainval",), "splits that --by taylor looks at")
    images: int = option(64, "images of them")
    cache: str = option("none", "where decoded images live", ("auto", "device", "ram", "none"))
    batch_size: int = option(16, "images a forward pass")

    def __post_init__(self) -> None:
        """Refuses values that cannot be meant."""
        super().__post_init__()
        at_least(self, 1, "images")
        at_least(self, 0, "keep", "gflops", "parameters")
        if not self.weights or not self.out:
            raise ValueError("--weights and --out are needed, e.g. logs/student/best.pth")
        if sum(map(bool, (self.keep, self.gflops, self.parameters))) != 1:
            raise ValueError("give one of --keep, --gflops and --parameters, above 0")
        if self.keep >= 1:
            raise ValueError(f"--keep is a share below 1, not {self.keep}")


def main(arguments: Sequence[str] | None) -> None:
    """Checkpoint -> importances -> narrower checkpoint."""
    config = parse_arguments(PruneConfig, arguments, __doc__)
    check_file(config.out, "--out", inputs=(config.weights, config.classes))
    require_pruning()
    device = choose_device(config.device)
    wanted = read_class_names(config.classes) if config.classes else ()
    model, class_names = load_network(config.weights, device, wanted)
    if wanted:
        check_class_names(class_names, wanted, config.weights)
    if config.by == "taylor":
        store = open_store(config, config.train, class_names, device)
        add_gradients(model, store, config.images, config.batch_size)
    scores = importances(model, config.by)
    if config.keep:
        pruned = without(model, scores, config.keep)
    elif config.gflops:
        pruned = largest(model, scores, lambda it: it["gflops"] <= config.gflops)
    else:
        pruned = largest(model, scores, lambda it: it["parameters"] <= config.parameters)
    if cost(pruned) == cost(model):
        raise ValueError(
            f"--keep {config.keep} leaves every channel: of a group a multiple of eight stays; "
            "choose a smaller one"
        )
    Path(config.out).parent.mkdir(parents=True, exist_ok=True)
    weights = pruned.cpu().state_dict()
    save_checkpoint(config.out, {"model": weights, **describe_network(pruned, class_names)})
    for name, network in (("before", model.cpu()), ("after", pruned)):
        price = cost(network)
        print(f"{name:7} {price['parameters']:>11,} parameters {price['gflops']:8.3f} GFLOPs")
    print(f"written: {config.out}; its channels have to learn to do without the others:")
    print(shlex.join(next_command(config)))


def next_command(config: PruneConfig) -> list[str]:
    """What trains the network that is left, on the images of its teacher where these are known."""
    content = load_tensors(config.weights)
    settings = content.get("config", {}) if is_ours(content) else {}
    command = ["python", "train_kd.py", "--weights", config.out, "--teacher", config.weights]
    command += ["--recipe", "scratch"]
    if (data := settings.get("data", config.data)) != PruneConfig.data:
        command += [flag("data"), data]
    for name in ("train", "val"):
        command += [flag(name), *settings[name]] if settings.get(name) else []
    return command


def add_gradients(model: SSD300, store: Store, images: int, batch_size: int) -> None:
    """Gives an evaluation-mode network the gradients of its loss on the first images of a split."""
    task = DetectionTask(model, MultiBoxLoss(), {"conf": 1.0, "loc": 1.0})
    order = torch.arange(min(images, len(store))).split(batch_size)
    for batch in store.batches(order):
        task(*resize(batch.images, batch.sizes, batch.targets))["loss"].backward()


if __name__ == "__main__":
    run(main)
