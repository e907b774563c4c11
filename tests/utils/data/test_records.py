"""Records are there whole or not at all, whoever writes them and however that ends."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from utils.data.records import WORD, Bytes, Records
from utils.files import described

ROOT = Path(__file__).resolve().parents[3]
COUNT, SIZE = 5, 1000


def record(number: int) -> Bytes:
    """Bytes that follow from a number."""
    return np.random.default_rng(number).integers(0, 256, SIZE, dtype=np.uint8)


@pytest.fixture
def open_file(tmp_path: Path) -> Callable[[], Records]:
    """Opens the same file anew each time, as another process would."""
    return lambda: Records(tmp_path / "records.bin", COUNT, SIZE)


def read(records: Records, index: int) -> Bytes | None:
    """A record, None where it is absent; what is handed over then is zeros."""
    into = np.full(SIZE, 7, dtype=np.uint8)
    if records.read(index, into):
        return into
    assert not into.any()
    return None


def test_what_was_written_is_read_by_all(open_file: Callable[[], Records]) -> None:
    one, other = open_file(), open_file()
    assert [read(one, i) for i in range(COUNT)] == [None] * COUNT
    one.write(3, record(3))
    one.write(0, np.zeros(SIZE, dtype=np.uint8))  # zeros, too, are something that was said
    for records in (one, other, open_file()):
        np.testing.assert_array_equal(read(records, 3), record(3))
        np.testing.assert_array_equal(read(records, 0), np.zeros(SIZE))
        assert [read(records, i) for i in (1, 2, 4)] == [None] * 3


def test_a_new_file_is_a_hole(open_file: Callable[[], Records]) -> None:
    records = Records(open_file().path.with_name("large.bin"), 10_000, SIZE)
    state = records.path.stat()
    assert state.st_size == 10_000 * (SIZE + WORD)
    assert state.st_blocks * 512 < SIZE * 100


@pytest.mark.parametrize("fault", ["torn", "flipped", "misplaced", "cut"])
def test_what_is_not_whole_is_absent(fault: str, open_file: Callable[[], Records]) -> None:
    records = open_file()
    records.write(2, record(2))
    records.write(4, record(4))
    content = bytearray(records.path.read_bytes())
    begin, end = 4 * (SIZE + WORD), 5 * (SIZE + WORD)
    if fault == "torn":
        content[begin + 600 :] = bytes(end - begin - 600)
    elif fault == "flipped":
        content[begin + 600] ^= 4
    elif fault == "misplaced":
        content[begin:end] = content[2 * (SIZE + WORD) : 3 * (SIZE + WORD)]
    else:
        del content[-1:]
    records.path.write_bytes(content)
    assert read(open_file(), 4) is None
    np.testing.assert_array_equal(read(open_file(), 2), record(2))
    open_file().write(4, record(44))
    np.testing.assert_array_equal(read(open_file(), 4), record(44))


def test_a_kill_at_any_moment_leaves_whole_records(open_file: Callable[[], Records]) -> None:
    path = open_file().path
    code = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from utils.data.records import Records\n"
        f"records = Records(Path(sys.argv[1]), {COUNT}, {SIZE})\n"
        "while True:\n"
        "    for value in range(256):\n"
        f"        records.write(1, np.full({SIZE}, value, dtype=np.uint8))\n"
        "        print(flush=True)\n"
    )
    words = [sys.executable, "-c", code, path]
    with subprocess.Popen(words, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        process.stdout.readline()
        seen = [read(open_file(), 1) for _ in range(200)]
        process.send_signal(signal.SIGKILL)
    for found in (*seen, read(open_file(), 1)):
        assert found is None or (found == found[0]).all()
    assert any(found is not None for found in seen)


def test_a_full_disk_names_the_file(
    open_file: Callable[[], Records], monkeypatch: pytest.MonkeyPatch
) -> None:
    records, whole = open_file(), os.pwrite
    records.write(1, record(1))

    def pwrite(file: int, content: memoryview, offset: int) -> int:
        if len(content) < SIZE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return whole(file, content[:300], offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    with pytest.raises(OSError, match=r"No space left on device.*records\.bin"):
        records.write(2, record(2))
    assert read(open_file(), 2) is None
    np.testing.assert_array_equal(read(open_file(), 1), record(1))


def test_what_may_only_be_read_is_read(
    open_file: Callable[[], Records], monkeypatch: pytest.MonkeyPatch
) -> None:
    open_file().write(1, record(1))
    original = os.open

    def open_for(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_RDWR:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return original(path, flags, mode)

    monkeypatch.setattr(os, "open", open_for)
    records = open_file()
    np.testing.assert_array_equal(read(records, 1), record(1))
    with pytest.raises(PermissionError, match="may only be read") as refused:
        records.write(2, record(2))
    assert "records.bin: may only be read, and lacks records; change the permis" in described(
        refused.value
    )
