"""Who is asked where a memo knows nothing yet, and what the memo says about itself."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from nets.matching import match
from nets.memo import record
from nets.memo.record import AnswerRecord
from nets.outputs import Targets
from nets.ssd import SSD300
from nets.tasks.frozen import frozen
from utils.config import DistillConfig
from utils.data.augment import AUGMENTATION, IMAGE_SIZE
from utils.data.store import Store
from utils.data.views import SEED
from utils.engine.memo import Memo, content_of, memo_folder
from utils.recipes import follow
from utils.runtime.device import Precision, choose_precision, recorded_precision

FOLDER = "memo"  # below --logs


class Asked:
    """A teacher that is loaded when it is first asked, and answers in records.

    Args:
        load: returns it, on its device.
        on_priors: brings its outputs to the student's priors, see `nets.tasks.cross_priors`.
        priors: `[P, 4]`, the student's, on the device.
        writes: how answers are written down.
        precision: in which it answers, whatever the student computes in.
    """

    def __init__(
        self,
        load: Callable[[], SSD300],
        on_priors: Callable[[SSD300], nn.Module],
        priors: Tensor,
        writes: AnswerRecord,
        precision: Precision,
    ) -> None:
        self.load, self.on_priors, self.priors = load, on_priors, priors
        self.writes, self.precision = writes, precision
        self.teacher: SSD300 | None = None
        self.on_student_priors: nn.Module = nn.Identity()

    @torch.no_grad()
    def __call__(self, images: Tensor, targets: Targets) -> Tensor:
        """See `utils.engine.memo.Answer`."""
        if self.teacher is None:
            self.teacher = frozen(self.load())
            self.on_student_priors = self.on_priors(self.teacher).to(images.device)
        positive = match(targets, self.priors).labels > 0
        with self.precision.autocast():
            outputs = self.on_student_priors(self.teacher(images))
        return self.writes.encode(outputs, positive)


def open_memo(
    config: DistillConfig,
    store: Store,
    teacher: str,
    class_names: Sequence[str],
    writes: AnswerRecord,
    ask: Callable[[Precision], Asked],
) -> Memo:
    """The memo of a teacher's answers about the training images of a run.

    Args:
        config: says how many views there are, and where memos are.
        store: the images.
        teacher: the digest of its file.
        class_names: names of the classes 1..K.
        writes: how answers are written down, on the student's priors.
        ask: who is to be asked what is not in it, in the memo's arithmetic.

    Raises:
        ValueError, OSError: see `utils.engine.memo.memo_folder`.
    """
    views = config.teacher_views
    identity = {
        "format": record.FORMAT,
        "listed": record.LISTED,
        "bytes": record.MOST,
        "teacher": teacher,
        "classes": list(class_names),
        "layout": writes.layout,
        **content_of(store),
        "views": views,
        "seed": SEED,
        "augmentation": AUGMENTATION,
        "side": IMAGE_SIZE,
        "expand": follow(config, steps=1).expand,  # no recipe asks how many steps there are
        **({"whole": True} if writes.whole else {}),
    }
    root = Path(config.memo or Path(config.logs) / FOLDER)
    arithmetic = choose_precision(store.device, config.amp).record()
    size = len(store) * views * writes.size
    folder, manner = memo_folder(root, identity, json.dumps(arithmetic), size)
    precision = recorded_precision(json.loads(manner), store.device)
    return Memo(
        folder,
        len(store),
        views,
        writes.size,
        ask(precision),
        store.device,
        workers=config.workers,
        best_effort=config.memo_best_effort,
    )
