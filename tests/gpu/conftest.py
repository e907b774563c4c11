"""A GPU for tests, and where there is none a CPU in its place."""

import pytest
import torch

from utils.runtime.device import choose_device


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each test runs on a CPU by default, so that it has run before it meets a GPU (`-m gpu`)."""
    return choose_device(request.param)
