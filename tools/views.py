"""What several networks detect in a split, for the pages that show them side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from nets.detect import detect_split
from nets.saved import check_class_names, load_detector
from utils.data.store import Store
from utils.metrics.evaluator import Evaluator
from utils.show.examples import View


def view_of(
    title: str,
    networks: Mapping[str, Path],
    store: Store,
    class_names: Sequence[str],
    batch_size: int,
) -> View:
    """Shows a split to networks, each in the arithmetic that its training measured the mAP in.

    Args:
        title: of the view.
        networks: name -> checkpoint, or exported network; the first is what it is about.
        store: the split.
        class_names: names of the classes 1..K, which all networks must know.
        batch_size: images a forward pass.

    Raises:
        FileNotFoundError, ValueError: a network cannot be read or knows other classes.
    """
    found = {}
    for name, path in networks.items():
        model, known, precision = load_detector(path, store.device, "auto", class_names)
        check_class_names(known, class_names, str(path), "the first run")
        model = model.to(memory_format=torch.channels_last)
        found[name] = Evaluator(class_names)
        detect_split(model, store, found[name], precision, batch_size)
    return View(title, store.samples, found)
