"""A memo: what somebody (a teacher) has said of views of images, asked once and then read.

Its folder holds `memo.json`, which says whose answers about what they are, and `records.bin`. Any
number of runs, on any number of machines, fill and read it at the same time.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from utils.boxes import Targets
from utils.data.prefetch import prefetch
from utils.data.records import Records
from utils.data.store import Store
from utils.engine.task import Shown
from utils.files import described, naming
from utils.runtime.device import constant

IDENTITY, RECORDS = "memo.json", "records.bin"
# What the folder says beside whose answers about what it holds: whoever adds to it follows.
MANNER = "arithmetic"

# Images `[B, 3, 300, 300]` float and their objects -> `[B, size]` uint8 records on that device, the
# first byte of each 0 where it is to count as absent.
Answer = Callable[[Tensor, Targets], Tensor]


class Memo:
    """The records of the views of a split's images, `views` of each.

    Law: what a step gets of a view is its record, whether it was read or has been written just now.
    So a run that fills a memo ends with the very weights of one that finds it full.

    Args:
        folder: from `memo_folder`.
        images: of the split.
        views: of each; see `utils.data.views`.
        size: bytes of a record.
        answer: who is asked about views that are absent.
        device: where records are wanted.
        workers: threads that read.
        best_effort: go on without writing where writing fails, and say so once.
    """

    def __init__(
        self,
        folder: Path,
        images: int,
        views: int,
        size: int,
        answer: Answer,
        device: torch.device,
        *,
        workers: int = 1,
        best_effort: bool = False,
    ) -> None:
        self.views, self.answer, self.device = views, answer, device
        self.workers, self.best_effort = workers, best_effort
        self.records = Records(folder / RECORDS, images * views, size)
        self.writer = ThreadPoolExecutor(1, thread_name_prefix="memo")
        self.writing: deque[Future[None]] = deque()
        self.writes = True

    def batches(self, order: Sequence[Tensor]) -> Iterator[Tensor]:
        """What is known of each `[B]` in `order`: `[B, size]` uint8 on the CPU, fetched ahead.

        `order` has numbers of records. The first byte of a record is 0 where it is absent.
        """
        pinned, size = self.device.type == "cuda", (self.records.size,)
        return prefetch(order, self.records.read, size, workers=self.workers, pinned=pinned)

    def complete(
        self, known: Tensor, numbers: Tensor, shown: Shown, parts: int = 1, *, keep: bool = True
    ) -> Tensor:
        """`known` and, where it was absent, what is now said and written down; on the device.

        Where a record is absent, the whole batch is looked at, so that what is said of an image
        does not depend on which others are known.

        Args:
            known: `[B, size]`, of `batches`.
            numbers: `[B]`, of the records.
            shown: these views, on the device.
            parts: how many equal parts of the batch are looked at one after the other.
            keep: write it down.

        Raises:
            OSError: an earlier answer could not be written, unless `best_effort`.
        """
        self.check()
        here = known.to(self.device, non_blocking=True)
        absent = absent_of(known)
        if not any(absent):
            return here
        with torch.no_grad():
            said = torch.cat([self.answer(p.images, p.targets) for p in shown.parts(parts)])
        if keep and self.writes:
            self.writing.append(self.writer.submit(self._write, said, absent, numbers))
        return torch.where(constant(absent, self.device)[:, None], said, here)

    def _write(self, said: Tensor, absent: Sequence[bool], numbers: Tensor) -> None:
        # In a thread of its own, which alone waits for a GPU.
        for record, wanted, number in zip(
            said.cpu().numpy(), absent, numbers.tolist(), strict=True
        ):
            if wanted and record[0]:
                self.records.write(number, record)

    def check(self, *, all_of_them: bool = False) -> None:
        """Raises what writing has raised by now; with `all_of_them` it waits for every record.

        With `best_effort` it prints one line instead, and no more is written.
        """
        while self.writing and (all_of_them or self.writing[0].done()):
            try:
                self.writing.popleft().result()
            except OSError as error:
                if not self.best_effort:
                    raise
                if self.writes:
                    print(f"memo: {described(error)}; going on, and asking the teacher instead")
                self.writes = False

    def close(self) -> None:
        """Ends the thread once all is written, and closes the file."""
        self.writer.shutdown()
        self.records.close()


def memo_folder(root: Path, identity: dict[str, Any], manner: str, size: int) -> tuple[Path, str]:
    """The folder of the memo that `identity` describes; made where missing, which is said.

    Args:
        root: a folder of memos, in which each has its own; or, where it is a memo, itself.
        identity: whose answers about what. Values as JSON has them.
        manner: the arithmetic in which a new memo is answered.
        size: bytes that it may come to take.

    Returns:
        The folder, and the arithmetic in which whoever adds to it is to answer.

    Raises:
        ValueError: the folder holds other answers.
        OSError: it cannot be made, or read.
    """
    itself = (root / IDENTITY).exists()
    folder = root if itself else root / digest_of(identity)
    path = folder / IDENTITY
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free / 2**30
        print(
            f"memo: {folder} will hold what the teacher says, up to {size / 2**30:.2f} GiB "
            f"({free:.1f} GiB free); to delete it: rm -r {folder}"
        )
        put(path, json.dumps({**identity, MANNER: manner}, indent=1) + "\n")
    with naming(path):
        text = path.read_text(encoding="utf-8")
    try:
        found = dict(json.loads(text))
    except (ValueError, TypeError):
        raise ValueError(f"{path}: is no memo's description; remove {folder}") from None
    manner = found.pop(MANNER, "")
    for key in {**identity, **found}:
        if found.get(key) != identity.get(key):
            raise ValueError(
                f"{folder}: is a memo of another {key} ({shortly(found.get(key))}, this run's is "
                f"{shortly(identity.get(key))}); pass another --memo, or remove it"
            )
    return folder, manner


def digest_of(identity: dict[str, Any]) -> str:
    """A short name that follows from the description."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]


def shortly(value: object) -> str:
    """A value for a message."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def put(path: Path, text: str) -> None:
    """Writes a file whole, unless somebody else has done so by now: the first one stays."""
    unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    with naming(path):
        try:
            unfinished.write_text(text, encoding="utf-8")
            try:
                os.link(unfinished, path)
            except FileExistsError:
                pass
            except OSError:  # a file system without links, where the last one stays
                unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)


def content_of(store: Store) -> dict[str, str]:
    """What tells the images and objects of a split from others, whatever their names.

    Files are read whole, by threads: VOC07+12 is 2 GB.
    """
    with ThreadPoolExecutor(store.workers) as pool:
        digests = pool.map(lambda s: hashlib.sha256(s.image.read_bytes()).digest(), store.samples)
        images = hashlib.sha256(b"".join(digests))
    objects = hashlib.sha256()
    for values in (store.sizes, *store.targets):
        objects.update(values.numpy().tobytes())
    return {"images": images.hexdigest(), "objects": objects.hexdigest()}


def absent_of(known: Tensor) -> list[bool]:
    """Which of some records, `[B, size]` on the CPU, have not been written yet."""
    absent: list[bool] = (known.numpy()[:, 0] == 0).tolist()
    return absent
