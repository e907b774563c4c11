"""What flows between the parts of the detector. Shapes and units are documented here, once.

B images, M objects (the batch's maximum), P priors, K classes, D detections.
"""

from typing import NamedTuple

from torch import Tensor

from utils.boxes import Detections, Targets

__all__ = ["Detections", "Matches", "Outputs", "Targets"]


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

    labels: `[B, P]` int64; 0 is background, 1..K are classes (the prior is *positive*).
    offsets: `[B, P, 4]`, the matched object encoded against the prior; meaningful where labels > 0,
        zero elsewhere.
    """

    labels: Tensor
    offsets: Tensor
