"""From JPEG files to augmented batches."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from benchmarks import scenes
from benchmarks.timing import Row, compare
from utils.boxes import Targets
from utils.data.augment import augment, uniforms
from utils.data.images import load_padded, read_image
from utils.data.store import LARGEST_SIDE


def reading(folder: Path) -> Iterator[Row]:
    """Images from disk to uint8 squares, and to augmented batches."""
    paths = scenes.voc_size_images(folder, 16)

    def load() -> tuple[Tensor, Tensor]:
        squares = np.empty((len(paths), LARGEST_SIDE, LARGEST_SIDE, 3), np.uint8)
        sizes = [load_padded(*pair) for pair in zip(paths, squares, strict=True)]
        return torch.from_numpy(squares).permute(0, 3, 1, 2), torch.tensor(sizes).float()

    yield compare(
        "reading",
        "JPEG -> uint8 square (16 images)",
        load,
        "decoding alone",
        lambda: [read_image(path) for path in paths],
    )
    targets = scenes.random_targets(16)
    pixels = Targets(targets.boxes * torch.tensor((500.0, 375, 500, 375)), targets.labels)
    rows = uniforms(16, seed=0, epoch=0)

    def ours() -> object:
        return augment(*load(), pixels, rows)

    transforms = v2.Compose(
        [
            v2.RandomPhotometricDistort(),
            v2.RandomZoomOut(fill=(123, 117, 104)),
            v2.RandomIoUCrop(),
            v2.RandomHorizontalFlip(),
            v2.Resize((300, 300)),
            v2.ToDtype(torch.float32),
            v2.SanitizeBoundingBoxes(),
        ]
    )

    def theirs() -> object:
        images = []
        for path, boxes, labels in zip(paths, *pixels, strict=True):
            image = tv_tensors.Image(torch.from_numpy(read_image(path)).permute(2, 0, 1))
            wrapped = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=image.shape[-2:])
            images.append(transforms(image, {"boxes": wrapped, "labels": labels})[0])
        return torch.stack(images)

    work = "JPEG -> augmented 300 x 300 batch (16)"
    yield compare("augmentation", work, ours, "torchvision v2", theirs)
