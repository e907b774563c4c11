"""Inputs of realistic size for the benchmarks, and torchvision's SSD beside ours."""

from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import torch
from PIL import Image
from torch import Tensor
from torchvision.models.detection.ssd import SSD, ssd300_vgg16
from torchvision.ops import box_iou

from nets.outputs import Outputs, Targets
from nets.priors import prior_boxes
from tools.demo.drawn_set import make_drawn_set
from utils.boxes import cxcywh_to_xyxy
from utils.data.voc import Sample, read_classes, read_split

BATCH, CLASSES, SIZE = 32, 20, 300
DEVKIT = "VOCdevkit"
NAMES = tuple(f"class {k}" for k in range(1, CLASSES + 1))


def random_targets(batch: int = BATCH, objects: int = 6, seed: int = 0) -> Targets:
    """Boxes of all sizes in fractions, with labels 1..20."""
    rng = torch.Generator().manual_seed(seed)
    size = 0.05 + 0.6 * torch.rand(batch, objects, 2, generator=rng) ** 2
    low = torch.rand(batch, objects, 2, generator=rng) * (1 - size)
    labels = torch.randint(1, CLASSES + 1, (batch, objects), generator=rng)
    return Targets(torch.cat((low, low + size), -1), labels)


def random_outputs(batch: int = BATCH, background: float = 0.0, seed: int = 0) -> Outputs:
    """Logits and offsets of an untrained network; `background` is added to column 0."""
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, 8732, CLASSES + 1, generator=rng)
    logits[..., 0] += background
    return Outputs((), logits, 0.5 * torch.randn(batch, 8732, 4, generator=rng))


@cache
def torchvision_ssd() -> SSD:
    """The SSD300-VGG16 of torchvision for 21 columns, untrained."""
    return ssd300_vgg16(weights=None, weights_backbone=None, num_classes=CLASSES + 1)


def torchvision_loss(outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
    """Matching and loss as torchvision's SSD does them in training, on our priors, in pixels."""
    model = torchvision_ssd()
    anchors = cxcywh_to_xyxy(prior_boxes()).to(outputs.logits.device) * SIZE
    listed, matched = [], []
    for boxes, labels in zip(*targets, strict=True):
        real = labels > 0
        listed.append({"boxes": boxes[real] * SIZE, "labels": labels[real]})
        matched.append(model.proposal_matcher(box_iou(listed[-1]["boxes"], anchors)))
    heads = {"bbox_regression": outputs.offsets, "cls_logits": outputs.logits}
    return model.compute_loss(listed, heads, [anchors] * len(listed), matched)


def torchvision_postprocess(outputs: Outputs) -> list[dict[str, Tensor]]:
    """Softmax, decoding and NMS of torchvision on the same raw outputs."""
    anchors = cxcywh_to_xyxy(prior_boxes()).to(outputs.logits.device) * SIZE
    batch = len(outputs.logits)
    heads = {"bbox_regression": outputs.offsets, "cls_logits": outputs.logits}
    return torchvision_ssd().postprocess_detections(
        heads, [anchors] * batch, [(SIZE, SIZE)] * batch
    )


def voc_size_images(folder: Path, images: int) -> list[Path]:
    """JPEG files of 500 x 375 pixels, as most of VOC has them."""
    paths = []
    for i, sample in enumerate(drawn_samples(folder, images)):
        paths.append(folder / f"{i}.jpg")
        Image.open(sample.image).resize((500, 375), Image.Resampling.BICUBIC).save(
            paths[-1], quality=92
        )
    return paths


def voc_size_devkit(folder: Path, images: int) -> None:
    """A drawn devkit whose images have 500 x 375 pixels, as most of VOC's."""
    for sample in drawn_samples(folder, images):
        picture = Image.open(sample.image)
        across, down = 500 / picture.width, 375 / picture.height
        picture.resize((500, 375), Image.Resampling.BICUBIC).save(sample.image, quality=92)
        path = sample.image.parents[1] / "Annotations" / f"{sample.image.stem}.xml"
        tree = ElementTree.parse(path)
        for tag, value in (("size/width", 500), ("size/height", 375)):
            tree.find(tag).text = str(value)
        for box in tree.iter("bndbox"):
            for side in box:
                scale, most = (across, 500) if side.tag.startswith("x") else (down, 375)
                side.text = str(min(most, max(1, round(int(side.text) * scale))))
        tree.write(path)


def drawn_samples(folder: Path, images: int = 64) -> list[Sample]:
    """Drawn JPEG images of about VOC's size."""
    devkit = folder / DEVKIT
    make_drawn_set(devkit, train=images, val=0, test=0, seed=0)
    return read_split(devkit, ["VOC2007/train"], read_classes(devkit / "VOC2007/classes.txt"))[0]
