"""What tests share: a small drawn devkit, and the real command lines in this very process."""

import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from subprocess import Popen
from threading import Lock

import pytest
import torch

from nets.saved import describe_network
from nets.ssd import SSD300
from tests.soak.launcher import Launcher, read_curves
from tools.demo.drawn_set import make_drawn_set
from tools.tune.search import SCRIPT, settings_flags
from utils.cli import run
from utils.data.voc import read_classes
from utils.engine.interrupts import SIGNALS
from utils.engine.runs.checkpoint import save_checkpoint

Script = Callable[..., int]
Refused = Callable[..., str]

# Two busy processes on two cores make four threads crawl: neither here nor in what tests start.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test with the marker `gpu` is skipped where there is none."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("no CUDA device")


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Signals as a terminal has them: a shell starts jobs in the background without SIGINT."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session", autouse=True)
def _same_arithmetic() -> Iterator[None]:
    """A CPU as all machines have it: `--amp auto` is float32 and measures nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("utils.runtime.device.native_bf16", lambda: False)
        yield


@pytest.fixture(scope="session", autouse=True)
def _quick_curves() -> Iterator[None]:
    """Runs draw no curves; tests that look at some draw them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("utils.engine.runs.files.draw_curves", read_curves)
        yield


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A devkit of 8 training, 4 validation and 6 test images; tests must not write into it."""
    devkit = tmp_path_factory.mktemp("drawn") / "VOCdevkit"
    make_drawn_set(devkit, train=8, val=4, test=6, seed=1)
    return devkit


@pytest.fixture(scope="session")
def untrained(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a network of the drawn classes that has learnt nothing."""
    names = read_classes(drawn / "VOC2007/classes.txt")
    torch.manual_seed(0)
    model = SSD300("resnet18(width=0.125)", len(names))
    path = tmp_path_factory.mktemp("untrained") / "best.pth"
    save_checkpoint(path, {**describe_network(model, names), "model": model.state_dict()})
    return path


@pytest.fixture(scope="session")
def launcher() -> Iterator[Launcher]:
    """Runs scripts in processes of their own."""
    with Launcher() as running:
        yield running


def main_of(name: str) -> Callable[[Sequence[str] | None], None]:
    """What `python NAME.py` or `python -m NAME` calls."""
    module = import_module(name)
    if hasattr(module, "__path__"):
        module = import_module(f"{name}.__main__")
    main: Callable[[Sequence[str] | None], None] = module.main
    return main


@pytest.fixture
def script() -> Script:
    """Runs `train_teacher`, `tools.demo`, ... with arguments; returns the exit status."""

    def call(name: str, *arguments: object) -> int:
        words: Sequence[str] = [str(argument) for argument in arguments]
        with pytest.raises(SystemExit) as exit_info:
            run(main_of(name), words)
        status = exit_info.value.code
        assert isinstance(status, int)
        return status

    return call


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, script: Script) -> list[str]:
    """Has the scripts that tools would start in processes run in this one; the names of those that
    ran. Importing torch takes each process longer than its work.
    """
    ran: list[str] = []

    def run_script(name: str, *arguments: object, **rest: object) -> None:
        del rest
        ran.append(name)
        if status := script(name.removesuffix(".py"), *arguments):
            raise ValueError(f"{name} ended with status {status}")

    def start(words: Sequence[str], settings: Mapping[str, float], folder: Path) -> Popen[bytes]:
        place = ["--logs", folder.parent, "--name", folder.name]
        run_script(SCRIPT, *words, *settings_flags(settings), *place)
        return Popen(["true"])

    monkeypatch.setattr("tools.compare.jobs.logged_script", run_script)
    one_at_a_time = Lock()

    def run_beside(title: str, threads: int, name: str, *arguments: object) -> None:
        del title, threads
        with one_at_a_time:
            run_script(name, *arguments)

    for tool in ("demo", "scoreboard"):
        monkeypatch.setattr(f"tools.{tool}.__main__.script", run_script)
    monkeypatch.setattr("tools.demo.__main__.script_beside", run_beside)
    monkeypatch.setattr("tools.tune.__main__.start_student", start)
    return ran


@pytest.fixture
def one_line(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """The single line that a refusal has printed on stderr."""

    def read() -> str:
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, lines
        return lines[0]

    return read


@pytest.fixture
def refused(script: Script, one_line: Callable[[], str]) -> Refused:
    """Runs a script that has to end with exit status 2; returns the line that it says why in."""

    def call(name: str, *arguments: object) -> str:
        assert script(name, *arguments) == 2
        return one_line()

    return call
