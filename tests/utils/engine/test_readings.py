"""Means of losses, and what is said when one is not finite."""

from pathlib import Path

import numpy as np
import pytest
import torch

from utils.data.voc import Annotation, Sample
from utils.engine.readings import Readings

SAMPLES = [
    Sample(
        f"VOC2007/{i}",
        Path("none.jpg"),
        Annotation(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool), 9, 9),
    )
    for i in range(4)
]


def terms(loss: float, conf: float) -> dict[str, torch.Tensor]:
    return {"loss": torch.tensor(loss), "conf": torch.tensor(conf)}


def test_means_are_over_all_steps_since_the_start() -> None:
    readings = Readings(SAMPLES)
    readings.add(terms(1.0, 4.0), torch.tensor([0]))
    assert readings.means() == {}  # asked before the first of them has been read
    readings.add(terms(2.0, 5.0), torch.tensor([1]))
    assert readings.read("here") == {"loss": 1.5, "conf": 4.5}
    readings.add(terms(6.0, 0.0), torch.tensor([2]))
    assert readings.read("here") == {"loss": 3.0, "conf": 3.0}


def test_sums_do_not_depend_on_when_they_are_read_or_who_reads_them() -> None:
    losses = [0.1 * 3**i for i in range(9)]
    once, often = Readings(SAMPLES), Readings(SAMPLES)
    for i, loss in enumerate(losses):
        once.add(terms(loss, 1.0), torch.tensor([0]))
        often.add(terms(loss, 1.0), torch.tensor([0]))
        if i % 2:
            often.read("here")
            resumed = Readings(SAMPLES)
            resumed.load_state_dict(often.state_dict())
            often = resumed
    assert once.read("here") == often.read("here")  # bit for bit
    assert often.read("here") == often.means()  # nothing is pending


def test_a_term_of_one_device_alone() -> None:
    """An epoch that began in fp16, which counts skipped steps, and ends in another arithmetic."""
    readings = Readings(SAMPLES)
    readings.add({**terms(1.0, 4.0), "skipped": torch.tensor(0.0)}, torch.tensor([0]))
    readings.read("here")
    resumed = Readings(SAMPLES)
    resumed.load_state_dict(readings.state_dict())
    resumed.add(terms(2.0, 5.0), torch.tensor([1]))
    assert resumed.read("here") == {"loss": 1.5, "conf": 4.5, "skipped": 0.0}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_bad_loss_names_terms_and_images_of_its_step(bad: float) -> None:
    readings = Readings(SAMPLES)
    readings.add(terms(1.0, 1.0), torch.tensor([0, 1]))
    readings.add(terms(bad, 2.5), torch.tensor([3, 2]))
    with pytest.raises(FloatingPointError) as error_info:
        readings.read("epoch 2, step 7")
    message = str(error_info.value)
    assert f"loss {bad:g}, conf 2.5; images VOC2007/3 VOC2007/2;" in message
    assert "epoch 2, step 7" in message
