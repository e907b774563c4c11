"""Records of one size in one file, which several processes and machines fill and read at a time.

A record is there whole or not at all: its last word is a checksum of it and of its place, so one
that a kill has torn, that was never written (a hole, all zeros) or that another process is writing
just now is absent. Nothing is kept but the records, so there is no list that could be out of date.

Read with `pread` and not through mapped memory: there a fault of the disk is a signal that ends the
process, here it is an OSError. What has been read lately is in the system's cache, in memory.
"""

import errno
import os
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from utils.files import naming

Bytes = npt.NDArray[np.uint8]
WORD = 4
# What a file says that may be read and not written.
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


class Records:
    """A file of `count` records; made where missing, as long as it will ever be but for holes.

    Args:
        path: its folder is there.
        count: how many records there are room for.
        size: bytes of each.

    Raises:
        OSError: it cannot be made or opened; the error names the file.
    """

    def __init__(self, path: Path, count: int, size: int) -> None:
        self.path, self.count, self.size = path, count, size
        self.writable = True
        self.stride = size + WORD
        with naming(path):
            try:
                self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
                if os.fstat(self.file).st_size < count * self.stride:
                    os.ftruncate(self.file, count * self.stride)
            except OSError as error:
                if error.errno not in READ_ONLY or not path.exists():
                    raise
                self.file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # a full one needs no more
                self.writable = False

    def read(self, index: int, into: Bytes) -> bool:
        """Copies a record into `into`, `[size]`; false where it is absent: `into` is then zeros."""
        word = bytearray(WORD)
        with naming(self.path):
            count = os.preadv(self.file, [into.data, word], self._offset(index))
        there = count == self.stride and word == checksum(index, into)
        if not there:
            into.fill(0)
        return there

    def write(self, index: int, record: Bytes) -> None:
        """Puts a record, `[size]`, in its place; it is there when this returns.

        Raises:
            OSError: it cannot be written, for want of space above all; the error names the file.
        """
        if not self.writable:
            raise PermissionError(
                errno.EACCES, "may only be read, and lacks records", str(self.path)
            )
        assert record.shape == (self.size,), record.shape
        content = memoryview(record.tobytes() + checksum(index, record))
        with naming(self.path):
            written = 0
            while written < self.stride:  # a full disk may take a part before it refuses the rest
                written += os.pwrite(self.file, content[written:], self._offset(index) + written)

    def close(self) -> None:
        """Closes the file."""
        os.close(self.file)

    def _offset(self, index: int) -> int:
        assert 0 <= index < self.count, (index, self.count)
        return index * self.stride


def checksum(index: int, record: Bytes) -> bytes:
    """The word that ends a record; never zeros, which is what a hole ends with."""
    return (zlib.crc32(record.data, index) or 1).to_bytes(WORD, "little")
