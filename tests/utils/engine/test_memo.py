"""What has been said is asked once, read ever after, and is the same either way."""

import errno
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.fake_gpu import GPU, fake_gpu
from utils.boxes import Targets
from utils.engine.memo import IDENTITY, RECORDS, Memo, memo_folder, put
from utils.engine.task import Shown

SIZE, IMAGES, VIEWS = 32, 6, 3
ABOUT = {"teacher": "ab12", "classes": ["cat", "dog"], "views": VIEWS, "expand": 4.0}


class Teller:
    """Says the mean of an image, whole batches at a time; counts how often it is asked."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, images: Tensor, targets: Targets) -> Tensor:
        del targets
        self.batches.append(len(images))
        said = images.flatten(1).mean(1, keepdim=True).byte().expand(-1, SIZE).clone()
        said[:, 0] = 1
        return said


def shown(*values: float) -> Shown:
    """Images that are all of one value."""
    images = torch.tensor(values).float()[:, None, None, None].expand(-1, 3, 4, 4)
    return Shown(
        images, Targets(torch.zeros(len(values), 1, 4), torch.zeros(len(values), 1).long())
    )


@pytest.fixture
def teller() -> Teller:
    return Teller()


@pytest.fixture
def memo(tmp_path: Path, teller: Teller) -> Iterator[Memo]:
    with closing(opened(tmp_path, teller)) as memo:
        yield memo


def opened(folder: Path, teller: Teller, *, best_effort: bool = False) -> Memo:
    device = torch.device("cpu")
    return Memo(folder, IMAGES, VIEWS, SIZE, teller, device, best_effort=best_effort)


def hear(memo: Memo, numbers: list[int], values: list[float], parts: int = 1) -> list[int]:
    """What the memo says of some views, a number each."""
    (known,) = memo.batches([torch.tensor(numbers)])
    said = memo.complete(known, torch.tensor(numbers), shown(*values), parts)
    memo.check(all_of_them=True)
    assert (said[:, 1:] == said[:, 1:2]).all()
    assert (said[:, 0] == 1).all()
    return [int(x) for x in said[:, 1]]


def test_a_view_is_asked_about_once(memo: Memo, teller: Teller, tmp_path: Path) -> None:
    assert hear(memo, [4, 17], [40, 170]) == [40, 170]
    assert hear(memo, [17, 4], [1, 1]) == [170, 40]  # read: the images are not looked at
    with closing(opened(tmp_path, teller)) as other:
        assert hear(other, [4], [1]) == [40]
    assert teller.batches == [2]


def test_the_whole_batch_is_looked_at_and_what_was_known_stays(memo: Memo, teller: Teller) -> None:
    hear(memo, [4], [40])
    assert hear(memo, [3, 4, 5, 6], [30, 1, 50, 60], parts=2) == [30, 40, 50, 60]
    assert teller.batches == [1, 2, 2]
    assert hear(memo, [6, 5, 4, 3], [1, 1, 1, 1]) == [60, 50, 40, 30]


def test_a_look_ahead_leaves_nothing(memo: Memo, teller: Teller) -> None:
    (known,) = memo.batches([torch.tensor([4])])
    memo.complete(known, torch.tensor([4]), shown(40), keep=False)
    assert hear(memo, [4], [41]) == [41]
    assert teller.batches == [1, 1]


def test_what_counts_as_absent_is_not_written(memo: Memo, teller: Teller) -> None:
    memo.answer = lambda images, targets: teller(images, targets) * torch.tensor([[1], [0]]).byte()
    (known,) = memo.batches([torch.tensor([1, 2])])
    memo.complete(known, torch.tensor([1, 2]), shown(10, 20))
    memo.check(all_of_them=True)
    (known,) = memo.batches([torch.tensor([1, 2])])
    assert known[:, 1].tolist() == [10, 0]


def full_disk(*_: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_ends_it(memo: Memo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pwrite", full_disk)
    with pytest.raises(OSError, match=r"No space left on device.*records\.bin"):
        hear(memo, [1], [10])


def test_with_best_effort_it_goes_on(
    tmp_path: Path,
    teller: Teller,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with closing(opened(tmp_path, teller, best_effort=True)) as memo:
        hear(memo, [1], [10])
        monkeypatch.setattr(os, "pwrite", full_disk)
        for _ in range(2):
            assert hear(memo, [1, 2], [10, 20]) == [10, 20]
        monkeypatch.undo()
        assert hear(memo, [2], [20]) == [20]
    assert teller.batches == [1, 2, 2, 1]
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(
        f"memo: {tmp_path}/records.bin: no space left on device; free some space"
    )


def test_a_gpu_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But by the thread that writes, where there is something to write."""
    # Where a GPU is faked the CPU's numbers are none, either.
    monkeypatch.setattr("utils.engine.memo.absent_of", lambda known: [False] * len(known))
    known = torch.ones(2, SIZE, dtype=torch.uint8)
    with closing(Memo(tmp_path, 2, 1, SIZE, Teller(), GPU)) as memo, fake_gpu():
        said = memo.complete(
            known, torch.arange(2), Shown(torch.zeros(2, 3, 4, 4), Targets(known, known))
        )
        assert said.device == GPU


class TestFolder:
    def test_the_first_makes_it_and_says_so(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder, manner = memo_folder(tmp_path / "memos", ABOUT, "bf16", 2**30)
        assert folder.parent == tmp_path / "memos"
        assert manner == "bf16"
        (line,) = capsys.readouterr().out.splitlines()
        assert f"memo: {folder} will hold what the teacher says, up to 1.00 GiB" in line
        assert line.endswith(f"to delete it: rm -r {folder}")
        # Whoever comes later follows the first; the folder itself can be named, too.
        for root in (tmp_path / "memos", folder):
            assert memo_folder(root, ABOUT, "float32", 2**30) == (folder, "bf16")
        assert capsys.readouterr().out == ""
        assert [path.name for path in folder.iterdir()] == [IDENTITY]

    def test_of_two_that_begin_at_once_both_follow_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first: list[str] = []

        def late(path: Path, text: str) -> None:
            monkeypatch.undo()
            first.append(memo_folder(tmp_path, ABOUT, "bf16", 1)[1])
            put(path, text)

        monkeypatch.setattr("utils.engine.memo.put", late)
        assert memo_folder(tmp_path, ABOUT, "float32", 1)[1] == "bf16"
        assert first == ["bf16"]

    def test_every_teacher_and_data_set_has_its_own(self, tmp_path: Path) -> None:
        others = [{**ABOUT, key: "other"} for key in ABOUT]
        folders = {memo_folder(tmp_path, about, "", 1)[0] for about in (ABOUT, *others)}
        assert len(folders) == 1 + len(ABOUT)

    @pytest.mark.parametrize("key", [*ABOUT, "format"])
    def test_anything_else_is_refused(self, key: str, tmp_path: Path) -> None:
        folder, _ = memo_folder(tmp_path, ABOUT, "", 1)
        with pytest.raises(
            ValueError, match=f"{folder}: is a memo of another {key} .*another --memo"
        ):
            memo_folder(folder, {**ABOUT, key: "other"}, "", 1)

    def test_what_is_no_description_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / IDENTITY).write_text("{")
        with pytest.raises(ValueError, match="is no memo's description; remove"):
            memo_folder(tmp_path, ABOUT, "", 1)

    def test_a_record_of_another_size_is_no_record(self, tmp_path: Path, teller: Teller) -> None:
        with closing(opened(tmp_path, teller)) as memo:
            hear(memo, [1], [10])
        (tmp_path / RECORDS).write_bytes((tmp_path / RECORDS).read_bytes()[3:])
        with closing(opened(tmp_path, teller)) as memo:
            assert hear(memo, [1], [20]) == [20]
