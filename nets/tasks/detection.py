"""What trains a detector: a network with its objective, behind the one interface of the engine.

A task turns a batch into `{"loss": total, "positives": count, **unweighted terms}`. The weights of
the terms are applied here, in one line, and nowhere else. Asked for its ledger, it adds what tells
whether the terms do their work.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from nets.matching import match
from nets.multibox_loss import MultiBoxLoss
from nets.multibox_loss_kd import MultiBoxLoss_KD
from nets.outputs import Detections, Outputs, Targets
from nets.postprocess import postprocess
from nets.ssd import SSD300
from utils.engine.ledger import WEIGHT, gradient_shares
from utils.engine.task import Shown, Task


class DetectionTask(Task):
    """Trains an SSD300 on objects alone.

    Args:
        model: the network to train; what is validated, saved and deployed.
        criterion: `MultiBoxLoss`.
        weights: factor of each term of the loss, e.g. `{"conf": 1.0, "loc": 1.0}`.
    """

    def __init__(
        self,
        model: SSD300,
        criterion: MultiBoxLoss | MultiBoxLoss_KD,
        weights: Mapping[str, float],
    ) -> None:
        super().__init__()
        self.model: SSD300 = model
        self.criterion: MultiBoxLoss | MultiBoxLoss_KD = criterion
        self.weights = dict(weights)

    def forward(
        self,
        images: Tensor,
        targets: Targets,
        rows: Tensor | None = None,
        said: Tensor | None = None,
        unlabelled: Tensor | None = None,
        ledger: bool = False,
        divisor: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """What is in a `Shown`, in its order -> named scalars; see `Task`."""
        outputs: Outputs = self.model(images)
        shown = Shown(images, targets, rows, said, unlabelled)
        terms = self.objective(outputs, shown, ledger, divisor)
        if ledger:
            terms |= self.measure(terms, outputs.features)
        return self.total(terms)

    def evaluate(self, images: Tensor, targets: Targets) -> tuple[dict[str, Tensor], Detections]:
        """The terms of `forward`, without their weights, and what is detected, from one pass."""
        outputs: Outputs = self.model(images)
        terms = self.total(self.objective(outputs, Shown(images, targets)))
        terms = {name: term for name, term in terms.items() if not name.startswith(WEIGHT)}
        return terms, postprocess(outputs, self.model.priors)

    def objective(
        self, outputs: Outputs, shown: Shown, ledger: bool = False, divisor: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The unweighted terms of what the network said, and the number of positives.

        The images are there for those who look again.
        """
        del ledger
        matches = match(shown.targets, self.model.priors)
        terms = self.criterion(outputs, matches, divisor)
        return {**terms, "positives": (matches.labels > 0).sum()}

    def divisor(self, parts: Sequence[Shown]) -> Tensor:
        """See `Task.divisor`."""
        labels = [match(self.objects(part), self.model.priors).labels for part in parts]
        return self.criterion.divisor(torch.cat(labels), len(parts))

    def objects(self, shown: Shown) -> Targets:
        """The objects of a batch; a task that can finds them where nobody has labelled them."""
        assert shown.unlabelled is None
        return shown.targets

    def total(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """Adds the weighted sum to the terms, where all of them are there."""
        if not self.weights.keys() <= terms.keys():
            return terms
        loss = torch.stack([w * terms[name] for name, w in self.factors(terms).items()]).sum()
        return {"loss": loss, **terms}

    def measure(self, terms: dict[str, Tensor], features: Sequence[Tensor]) -> dict[str, Tensor]:
        """What the ledger says of each term's gradient at the source maps."""
        return gradient_shares(terms, self.factors(terms), features)

    def freeze_backbone(self, frozen: bool) -> None:
        """Stops or resumes training of the backbone, its batch-norm statistics included."""
        self.model.backbone.requires_grad_(not frozen)
        self.model.backbone.train(self.training and not frozen)
