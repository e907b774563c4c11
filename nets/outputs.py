"""What flows between the parts of the detector. Shapes and units are documented here, once.

B images, M objects (the batch's maximum), P priors, K classes, D detections.
"""

from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from utils.boxes import Detections, Targets

if TYPE_CHECKING:
    from nets.ssd import SSD300

__all__ = ["Detections", "Lesson", "Matches", "Outputs", "Targets"]


class Outputs(NamedTuple):
    """What a network predicts for a batch.

    features: the source maps, each `[B, C, H, W]`, finest first; what feature-level distillers see.
    logits: `[B, P, K + 1]`; column 0 is background.
    offsets: `[B, P, 4]`, encoded against the network's priors (`utils.boxes.encode`).
    """

    features: tuple[Tensor, ...]
    logits: Tensor
    offsets: Tensor


class Matches(NamedTuple):
    """What each prior has to predict.

    labels: `[B, P]` int64; 0 is background, 1..K are classes (the prior is *positive*), and -1 is
        ignored: neither taught nor mined.
    offsets: `[B, P, 4]`, the matched object encoded against the prior; meaningful where labels > 0,
        zero up to rounding elsewhere.
    objects: `[B, P]` int64, which of the M objects; meaningful where labels > 0.
    """

    labels: Tensor
    offsets: Tensor
    objects: Tensor


class Lesson(NamedTuple):
    """What a distiller is told about a batch besides what both networks said of it.

    targets: the objects.
    matches: what each prior has to predict.
    positive, negative: `[B, P]` bool, the priors that count, see `nets.multibox_loss`.
    divisor: N, a scalar: what sums over these priors are divided by.
    priors: `[P, 4]`, the student's; the teacher's outputs are on them, too.
    teacher: the teacher itself, frozen.
    rows: `[B]` int64, a number for each image, another one in every epoch and for every seed: what
        is random follows from it alone.
    progress: a scalar in 0..1, how much of the run is done.
    """

    targets: Targets
    matches: Matches
    positive: Tensor
    negative: Tensor
    divisor: Tensor
    priors: Tensor
    teacher: "SSD300"
    rows: Tensor
    progress: Tensor
