"""Brings PASCAL VOC 2007 (trainval and test) and 2012 (trainval) into a devkit.

python -m tools.download_voc --years 2007 2012 --data VOCdevkit

What is complete is left alone, so a run that broke off is simply repeated.
"""

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from torchvision.datasets.utils import download_and_extract_archive
from torchvision.datasets.voc import DATASET_YEAR_DICT

from utils.cli import parse_arguments, run
from utils.config import option

# year -> split -> torchvision's name of the archive that holds it
ARCHIVES = {
    "2007": {"trainval": "2007", "test": "2007-test"},
    "2012": {"trainval": "2012"},
}


@dataclass(frozen=True)
class DownloadConfig:
    """Brings PASCAL VOC 2007 (trainval and test) and 2012 (trainval) into a devkit."""

    years: tuple[str, ...] = option(tuple(ARCHIVES), "years to fetch", tuple(ARCHIVES))
    data: str = option("VOCdevkit", "the devkit to fill")

    def __post_init__(self) -> None:
        """Refuses to fetch nothing."""
        if not self.years:
            raise ValueError(f"--years names none; give some of {', '.join(ARCHIVES)}")


def download_voc(devkit: str | Path, years: Sequence[str]) -> list[str]:
    """Downloads, checks (MD5) and unpacks the archives that `devkit` lacks.

    Args:
        devkit: a folder named `VOCdevkit`, as it is called inside the archives.
        years: of `2007`, `2012`.

    Returns:
        The splits that were fetched, as `VOC2007/trainval`.

    Raises:
        ValueError: the folder has another name.
        OSError: an archive cannot be fetched, is damaged or incomplete.
    """
    devkit = Path(devkit).absolute()
    if devkit.name != "VOCdevkit":
        raise ValueError(f"{devkit}: the archives unpack into VOCdevkit; give --data that name")
    fetched = []
    for year in years:
        for split, archive in ARCHIVES[year].items():
            if not _is_complete(devkit / f"VOC{year}", split):
                _fetch(devkit, DATASET_YEAR_DICT[archive])
                if not _is_complete(devkit / f"VOC{year}", split):
                    raise OSError(f"{devkit}/VOC{year}: {split} lacks files; delete it and repeat")
                fetched.append(f"VOC{year}/{split}")
    return fetched


def _is_complete(year: Path, split: str) -> bool:
    """Every file of the split is there: an archive unpacks its lists before its pictures."""
    list_file = year / "ImageSets" / "Main" / f"{split}.txt"
    if not list_file.is_file():
        return False
    ids = list_file.read_text().split()
    return all(
        (year / "JPEGImages" / f"{image_id}.jpg").is_file()
        and (year / "Annotations" / f"{image_id}.xml").is_file()
        for image_id in ids
    )


def _fetch(devkit: Path, archive: dict[str, str]) -> None:
    print(f"fetching {archive['url']}", flush=True)
    try:
        with redirect_stdout(io.StringIO()):  # torchvision reports its retries there
            download_and_extract_archive(
                archive["url"],
                download_root=str(devkit),
                extract_root=str(devkit.parent),
                filename=archive["filename"],
                md5=archive["md5"],
                remove_finished=True,
            )
    except (OSError, RuntimeError) as error:  # RuntimeError: the checksum is wrong
        if isinstance(error, OSError) and error.filename is not None:
            raise  # of a file here, say on a full disk
        raise OSError(
            f"{archive['url']}: download failed ({error}); check the connection and repeat, "
            f"or unpack the archive into {devkit.parent}"
        ) from None


def main(arguments: Sequence[str] | None) -> None:
    """Settings -> archives that are missing."""
    config = parse_arguments(DownloadConfig, arguments, __doc__)
    fetched = download_voc(config.data, config.years)
    print(f"{config.data}: fetched {', '.join(fetched) or 'nothing, all is there'}")


if __name__ == "__main__":
    run(main)
