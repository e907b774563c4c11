"""From JPEG files to augmented batches."""

from collections.abc import Iterator
from pathlib import Path

import torch
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
    yield compare(
        "reading",
        "JPEG -> uint8 square (16 images)",
        lambda: [load_padded(path, LARGEST_SIDE) for path in paths],
        "decoding alone",
        lambda: [read_image(path) for path in paths],
    )
    targets = scenes.random_targets(16)
    pixels = Targets(targets.boxes * torch.tensor((500.0, 375, 500, 375)), targets.labels)
    rows = uniforms(16, seed=0, epoch=0)

    def ours() -> object:
        decoded = [load_padded(path, LARGEST_SIDE) for path in paths]
        images = torch.stack([torch.from_numpy(image) for image, _ in decoded])
        sizes = torch.tensor([size for _, size in decoded]).float()
        return augment(images, sizes, pixels, rows)

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
