"""Decoded images behind one interface: on the device, in memory, or streamed from disk.

Every image is decoded to uint8, shrunk only if it is larger than the store's square, and never
augmented here: the same batches come from every kind of store. What is not on the device yet is
fetched by threads, some batches ahead, so that a GPU need not wait: it is decoded, or copied, right
into memory that the GPU reads by itself.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from utils.boxes import Targets
from utils.config import DIFFICULT, DataConfig
from utils.data.images import fitted_size, load_padded
from utils.data.prefetch import Square, prefetch
from utils.data.voc import Annotation, Sample, read_split
from utils.runtime.memory import choose_cache

# VOC images have at most 500 pixels a side; a crop of 0.3 of 512 still fills half of 300.
LARGEST_SIDE = 512


class Batch(NamedTuple):
    """Some images of a split, in the order asked for.

    images: `[B, 3, S, S]` uint8 RGB, each in the top left corner; in memory channels last.
    sizes: `[B, 2]` float, the height and width of each there, in pixels.
    targets: boxes in those pixels.
    indices: `[B]`, positions in the split, on the CPU.
    unlabelled: `[B]` bool, images of which nobody has said what is on them; None where the store
        has no such image.
    """

    images: Tensor
    sizes: Tensor
    targets: Targets
    indices: Tensor
    unlabelled: Tensor | None = None


class Store:
    """The images and objects of a split, ready for a device.

    Decoding, resizing and copying run outside Python's lock, so threads share the work.

    Args:
        samples: what `utils.data.voc.read_split` returned; at least one. Those without labels
            come last.
        device: where batches are wanted.
        cache: `device`, `ram`, `none` (decode again in every epoch), or `auto`: the first of these
            that takes at most half of the free memory.
        workers: threads that decode or copy, at least 1.
        difficult: objects marked difficult are among the targets with label -1 (`ignore`), as
            every other object (`train`), or not at all (`background`).
        fixed_objects: pad every batch to the most objects of any image, so that shapes never change
            (for compiled code); otherwise to the most objects of its own images.

    Attributes:
        cache: what was chosen; `reason` says why.
        labelled: how many images have labels.

    Raises:
        FileNotFoundError, ValueError: an image cannot be read; the message names the file.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        device: torch.device,
        *,
        cache: str = "auto",
        workers: int = 2,
        difficult: str = "ignore",
        fixed_objects: bool = False,
    ) -> None:
        assert samples
        self.samples, self.device, self.workers = samples, device, workers
        longest = max(max(s.annotation.width, s.annotation.height) for s in samples)
        self.side = min(longest, LARGEST_SIDE)
        self.sizes = torch.tensor(
            [fitted_size(s.annotation.height, s.annotation.width, self.side) for s in samples]
        ).float()
        self.targets = pad_objects(samples, self.sizes, difficult)
        self.counts = (self.targets.labels != 0).sum(1)
        self.labelled = sum(sample.labelled for sample in samples)
        assert all(sample.labelled for sample in samples[: self.labelled])
        self.fixed_objects = fixed_objects
        self.cache, self.reason = choose_cache(cache, len(samples) * 3 * self.side**2, device)
        self.resident: Tensor | None = None  # [N, S, S, 3]
        if self.cache != "none":
            home = device if self.cache == "device" else torch.device("cpu")
            shape = (len(samples), self.side, self.side, 3)
            resident = torch.empty(shape, dtype=torch.uint8, device=home)
            chunks = torch.arange(len(samples)).split(16)
            for indices, images in zip(chunks, self._fetched(chunks), strict=True):
                resident[indices[0] : indices[-1] + 1] = images.to(home)
            self.resident = resident

    def __len__(self) -> int:
        return len(self.samples)

    def batches(self, order: Iterable[Tensor]) -> Iterator[Batch]:
        """One `Batch` on the device for each `[B]` tensor of positions in `order`."""
        order = list(order)
        resident = self.resident
        at_hand = resident is not None and resident.device.type == self.device.type
        pictures = map(self._stored, order) if at_hand else self._fetched(order)
        for indices, images in zip(order, pictures, strict=True):
            # Only as much padding as the batch needs; counted on the CPU, so nothing waits.
            most = int((self.counts if self.fixed_objects else self.counts[indices]).max())
            targets = Targets(*(x[indices, :most] for x in self.targets))
            unlabelled = None
            if self.labelled < len(self):
                unlabelled = (indices >= self.labelled).to(self.device, non_blocking=True)
            yield Batch(
                images.to(self.device, non_blocking=True).permute(0, 3, 1, 2),
                self.sizes[indices].to(self.device, non_blocking=True),
                targets.to(self.device, non_blocking=True),
                indices,
                unlabelled,
            )

    def _stored(self, indices: Tensor) -> Tensor:
        """`[B, S, S, 3]` of what is resident."""
        assert self.resident is not None
        if self.resident.device.type == "cpu":
            return self.resident.index_select(0, indices)  # ten times as fast as indexing
        return self.resident[indices.to(self.resident.device, non_blocking=True)]

    def _fetched(self, order: Sequence[Tensor]) -> Iterator[Tensor]:
        """`[B, S, S, 3]` on the CPU for each element of `order`."""
        pinned = self.device.type == "cuda"
        shape = (self.side, self.side, 3)
        return prefetch(order, self._fetch, shape, workers=self.workers, pinned=pinned)

    def _fetch(self, index: int, square: Square) -> None:
        """Puts one image of the split into a `[S, S, 3]` square."""
        if self.resident is None:
            decode(self.samples[index].image, square)
        else:
            np.copyto(square, self.resident[index].numpy())


def open_store(
    config: DataConfig,
    splits: Sequence[str],
    class_names: Sequence[str],
    device: torch.device,
    *,
    difficult: str = "ignore",
    fixed_objects: bool = False,
    unlabelled: Sequence[str] = (),
    say: bool = True,
) -> Store:
    """Reads and checks the images of some splits; says what was left out and what there is.

    Those of `unlabelled` splits come behind them, and without labels. Without `say` the caller says
    what there is, by `described`.

    Raises:
        FileNotFoundError, ValueError: a file is missing or bad, see `utils.data.voc`.
    """
    samples = read_samples(config, splits, class_names)
    if unlabelled:
        samples += read_samples(config, unlabelled, None)
    store = Store(
        samples,
        device,
        cache=config.cache,
        workers=config.workers,
        difficult=difficult,
        fixed_objects=fixed_objects,
    )
    if say:
        print(described(splits, store))
    return store


def described(splits: Sequence[str], store: Store) -> str:
    """`VOC2007/trainval: 5011 images in memory (3.67 of 18.9 GiB free)`."""
    unlabelled = len(store) - store.labelled
    others = f" and {unlabelled} without labels" if unlabelled else ""
    return f"{' '.join(splits)}: {store.labelled} images{others}, {store.reason}"


def read_samples(
    config: DataConfig, splits: Sequence[str], class_names: Sequence[str] | None
) -> list[Sample]:
    """`utils.data.voc.read_split` by the settings of a run; prints what was left out."""
    samples, skipped = read_split(config.data, splits, class_names, skip_bad=config.skip_bad)
    for line in skipped:
        print(f"left out: {line}")
    if skipped:
        print(f"left out: {len(skipped)} of {len(samples) + len(skipped)} images of {splits}")
    if not samples:
        raise ValueError(f"{config.data}: no usable image in {' '.join(splits)}")
    return samples


def decode(path: Path, square: Square) -> None:
    """One image file into a `[S, S, 3]` square; see `utils.data.images.load_padded`."""
    try:
        load_padded(path, square)
    except (ValueError, FileNotFoundError) as error:  # its header was fine when it was looked at
        raise type(error)(f"{error}; repair the file or pass --skip-bad") from error


def pad_objects(samples: Sequence[Sample], sizes: Tensor, difficult: str) -> Targets:
    """All objects of a split: boxes `[N, M, 4]` in pixels of images of `[N, 2]` `sizes`, labels."""
    labels_of = [told_labels(sample.annotation, difficult) for sample in samples]
    most = max(int((labels != 0).sum()) for labels in labels_of)
    boxes, labels = torch.zeros(len(samples), most, 4), torch.zeros(len(samples), most).long()
    for i, (sample, told) in enumerate(zip(samples, labels_of, strict=True)):
        annotation, count = sample.annotation, int((told != 0).sum())
        stored_h, stored_w = sizes[i].tolist()
        x, y = stored_w / annotation.width, stored_h / annotation.height
        scale = torch.tensor((x, y, x, y))
        boxes[i, :count] = torch.from_numpy(annotation.boxes[told != 0]) * scale
        labels[i, :count] = torch.from_numpy(told[told != 0])
    return Targets(boxes, labels)


def told_labels(annotation: Annotation, difficult: str) -> npt.NDArray[np.int64]:
    """`[M]`: the label that training is told of each object; -1 to ignore it, 0 to say nothing."""
    assert difficult in DIFFICULT, difficult
    if difficult == "train":
        return annotation.labels
    return np.where(annotation.difficult, -1 if difficult == "ignore" else 0, annotation.labels)
