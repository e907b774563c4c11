"""Checkpoints of other SSD300 projects, recognised by their keys and renamed to ours.

Renaming is all there is to it: the per-cell order of priors and the order of columns (background
first) are the same everywhere. Each project has a row in `PROJECTS`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Project(NamedTuple):
    """How one kind of network of another project differs from ours.

    name: project and network, as `--project` takes it.
    served_by: backbone spec and layout here, see `nets.backbones` and `nets.priors`.
    mean: subtracted from red, green, blue in 0..255; none of them divides.
    marks: keys that it has, in this order.
    modules: module there -> module here; the longest one that a key begins with decides.
    """

    name: str
    served_by: tuple[str, str]
    mean: tuple[float, float, float]
    marks: tuple[str, ...]
    modules: Mapping[str, str]


class Foreign(NamedTuple):
    """A recognised checkpoint.

    project: a name in `PROJECTS`.
    backbone, layout: spec and layout of the SSD300 that it fits.
    mean, std: of red, green, blue in 0..255.
    classes: number of classes without background.
    state: the weights under our keys, without `mean` and `std`.
    """

    project: str
    backbone: str
    layout: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    classes: int
    state: dict[str, Tensor]


REST = {"L2Norm": "backbone.l2norm", "conf": "conf", "loc": "loc"}
# Squeeze and 3 x 3 of an extra layer follow each other in one list; ours has a ReLU after each.
EXTRAS = {f"extras.{i}": f"extras.{i // 2}.{i % 2 * 2}" for i in range(8)}
# torchvision.models.vgg16's numbering up to conv5_3; pool5, fc6, ReLU, fc7 are 30 to 33.
VGG = {"vgg": "backbone.features", "vgg.31": "backbone.fc6", "vgg.33": "backbone.fc7"}
STAGES = {0: "conv1", 1: "bn1", 4: "layer1", 5: "layer2", 6: "layer3"}
RESNET = {f"resnet.{i}": f"backbone.{name}" for i, name in STAGES.items()}

CAFFE_RGB = (123.0, 117.0, 104.0)
CAFFE_BGR = CAFFE_RGB[::-1]  # bubbliiiing subtracts blue's mean from red, in training as well

PROJECTS = (
    Project(
        "torchvision",  # models.detection.ssd300_vgg16
        ("vgg16", "torchvision"),
        (0.48235 * 255, 0.45882 * 255, 0.40784 * 255),  # on the 0..1 scale there, std 1 / 255
        ("backbone.scale_weight", "head.classification_head.module_list.0.weight"),
        {
            "backbone.features": "backbone.features",
            "backbone.scale_weight": "backbone.l2norm.weight",
            # pool4, conv5_1 to conv5_3 with their ReLUs, then pool5, fc6, ReLU, fc7.
            **{f"backbone.extra.0.{i}": f"backbone.features.{23 + i}" for i in (1, 3, 5)},
            "backbone.extra.0.7.1": "backbone.fc6",
            "backbone.extra.0.7.3": "backbone.fc7",
            **{f"backbone.extra.{i + 1}": f"extras.{i}" for i in range(4)},
            "head.classification_head.module_list": "conf",
            "head.regression_head.module_list": "loc",
        },
    ),
    Project(
        "lufficc",  # lufficc/SSD, vgg_ssd300
        ("vgg16", "paper"),
        CAFFE_RGB,
        ("backbone.l2_norm.weight", "box_head.predictor.cls_headers.0.weight"),
        {
            **{f"backbone.{there}": here for there, here in (VGG | EXTRAS).items()},
            "backbone.l2_norm": "backbone.l2norm",
            "box_head.predictor.cls_headers": "conf",
            "box_head.predictor.reg_headers": "loc",
        },
    ),
    # The next two differ in the order of their keys alone; bubbliiiing's first versions not at all.
    Project(
        "amdegroot",  # amdegroot/ssd.pytorch
        ("vgg16", "paper"),
        CAFFE_RGB,
        ("vgg.0.weight", "L2Norm.weight", "extras.0.weight"),
        VGG | EXTRAS | REST,
    ),
    Project(
        "bubbliiiing_vgg",  # bubbliiiing/ssd-pytorch, as the last two
        ("vgg16", "bubbliiiing"),
        CAFFE_BGR,
        ("vgg.0.weight", "extras.0.weight", "L2Norm.weight"),
        VGG | EXTRAS | REST,
    ),
    Project(
        "bubbliiiing_resnet50",
        ("bubbliiiing_resnet50", "bubbliiiing"),
        CAFFE_BGR,
        ("resnet.0.weight", "L2Norm.weight"),
        RESNET | EXTRAS | REST,
    ),
    Project(
        "bubbliiiing_mobilenetv2",
        ("bubbliiiing_mobilenetv2", "bubbliiiing_mobilenetv2"),
        CAFFE_BGR,
        ("mobilenet.0.0.weight", "L2Norm.weight"),
        {"mobilenet": "backbone.features", **{f"extras.{i}": f"extras.{i}.0" for i in range(4)}}
        | REST,
    ),
)


def convert(content: Any, project: str = "") -> Foreign:
    """What another project saved, under our keys.

    Args:
        content: what its file holds: a state dict, alone or under `model` or `state_dict`, of the
            network or of `DataParallel` around it.
        project: a name in `PROJECTS`; without one the keys decide.

    Raises:
        ValueError: no state dict, none that is known, or entries that the project has not.
    """
    state = state_dict_in(content)
    row = recognise(state, project)
    names = {key: renamed(key, row.modules) for key in state}
    unknown = [key for key, name in names.items() if not name]
    if unknown:
        listed = ", ".join(unknown[:3])
        raise ValueError(f"taken for {row.name}, whose SSD300 lacks {len(unknown)} keys: {listed}")
    weights = {names[key]: value.detach() for key, value in state.items()}
    classes = count_classes(weights)
    return Foreign(row.name, *row.served_by, row.mean, (1.0, 1.0, 1.0), classes, weights)


def state_dict_in(content: Any) -> dict[str, Tensor]:
    """The state dict in what a file holds, without the prefix of `DataParallel`.

    Raises:
        ValueError: there is none.
    """
    for wrapper in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    entries = content.items() if isinstance(content, dict) else ()
    if not entries or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in entries):
        raise ValueError("holds no state dict, that is tensors by name")
    prefix = "module." if all(key.startswith("module.") for key in content) else ""
    return {key.removeprefix(prefix): value for key, value in content.items()}


def recognise(state: Mapping[str, Tensor], project: str = "") -> Project:
    """The row called `project`; without a name the one whose marks `state` has, in their order.

    Raises:
        ValueError: there is none.
    """
    for row in PROJECTS:
        if row.name == project:
            return row
        if not project and [key for key in state if key in row.marks] == list(row.marks):
            return row
    names = ", ".join(row.name for row in PROJECTS)
    what = repr(project) if project else f"with the keys {', '.join(list(state)[:3])}, ..."
    raise ValueError(f"no known project {what}; tools.import_weights --project has {names}")


def renamed(key: str, modules: Mapping[str, str]) -> str:
    """`key` with its module exchanged; empty where no module of the table begins it."""
    module, dot = key, "."
    while dot:
        if module in modules:
            return modules[module] + key.removeprefix(module)
        module, dot, _ = module.rpartition(".")
    return ""


def count_classes(state: Mapping[str, Tensor]) -> int:
    """K, from the heads on the first source: K + 1 and 4 columns for each of its priors.

    Raises:
        ValueError: a head is missing, or the two do not fit together.
    """
    nothing = torch.empty(0)
    conf, loc = (state.get(f"{head}.0.bias", nothing).numel() for head in ("conf", "loc"))
    if not loc or 4 * conf % loc or 2 * conf < loc:
        raise ValueError("the heads on the first source are missing or do not fit together")
    return 4 * conf // loc - 1
