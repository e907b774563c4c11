"""What the engine trains, as far as it needs to know."""

from torch import Tensor, nn

from utils.boxes import Detections, Targets


class Task(nn.Module):
    """A network with its objective.

    `task(images, targets)` returns `{"loss": total, "positives": count, **unweighted terms}`; with
    `ledger=True` also entries `ledger/...`, numbers to watch, see `utils.engine.ledger`. Given
    a `divisor`, it divides by that what it would divide by a count of these targets.

    Attributes:
        model: the network that is validated and saved; a task may hold more that trains.
        weights: the factor of each term in the total.
    """

    model: nn.Module
    weights: dict[str, float]

    def evaluate(self, images: Tensor, targets: Targets) -> tuple[dict[str, Tensor], Detections]:
        """The terms of a call, and what `model` detects."""
        raise NotImplementedError

    def divisor(self, targets: Targets, parts: int) -> Tensor:
        """What the task is to divide by in each of `parts` equal parts of a batch.

        With it the mean of a term over the parts is the term of the batch in one piece.
        """
        raise NotImplementedError

    def freeze_backbone(self, frozen: bool) -> None:
        """Stops or resumes training of the part that comes with ImageNet weights."""
        raise NotImplementedError
