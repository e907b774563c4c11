"""What the flags of a run name: looked for before anything is downloaded, built or trained."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from nets.saved import faults_of, names_in, refuse_exported
from utils.config import CLASSES, DistillConfig, TrainConfig
from utils.data.overlap import check_apart
from utils.data.voc import check_splits, read_classes
from utils.engine.runs.checkpoint import load_tensors
from utils.suggest import meant

UNLABELLED = "--unlabelled"
# How torch's files begin, zip or pickle; no text does.
MAGIC = (b"PK\x03\x04", b"\x80")


def check_inputs(config: TrainConfig) -> tuple[str, ...]:
    """The class names of a run, once all that it reads has been looked for.

    Nothing is downloaded or built before; of each split the first picture is read, if at all.

    Raises:
        FileNotFoundError, ValueError: a split, a checkpoint or the class list is missing or bad, or
            the list is another data set's, or images without labels are in another split, too; the
            message names the flag.
    """
    teacher = config.teacher if isinstance(config, DistillConfig) else ""
    check_checkpoint(teacher, "--teacher")
    check_checkpoint(config.weights, "--weights")
    splits = {"--train": config.train, "--val": config.val}
    for name, listed in {**splits, UNLABELLED: config.unlabelled_splits}.items():
        check_splits(config.data, listed, name)
    class_names = read_class_names(config.classes, teacher, config.weights)
    if not config.skip_bad:
        for name, listed in splits.items():
            check_splits(config.data, listed, name, class_names)
        check_splits(config.data, config.unlabelled_splits, UNLABELLED, None)
    check_unlabelled(config, {**splits, "the test split": known_tests(config.data)})
    return class_names


def check_unlabelled(config: TrainConfig, others: Mapping[str, Sequence[str]]) -> None:
    """Refuses images without labels that are in `others`, too; see `utils.data.overlap`."""
    if config.unlabelled_splits:
        check_apart(config.data, config.unlabelled_splits, UNLABELLED, others)


def known_tests(devkit: str) -> list[str]:
    """What a devkit calls a test, as far as that is known before anybody asks for a test."""
    lists = sorted(Path(devkit).glob("*/ImageSets/Main/test.txt"))
    return [f"{path.parents[2].name}/test" for path in lists]


def check_checkpoint(path: str, flag: str) -> None:
    """Refuses a path that is given and cannot be trained with; names its flag.

    Raises:
        FileNotFoundError: there is no file.
        ValueError: it is an exported network.
    """
    if path and not Path(path).is_file():
        raise FileNotFoundError(f"{flag} {path}: no such checkpoint; train one or check the path")
    if path:
        refuse_exported(path, flag)


def warn_of_choice(config: TrainConfig) -> None:
    """Says so where a run would be chosen by what it is to be judged by."""
    tests = [split for split in config.val if split.rpartition("/")[2] == "test"]
    if tests and config.chooses:
        print(
            f"warning: {config.name}/best.pth is to be the best of several by its mAP on "
            f"{' '.join(tests)}, which makes that mAP optimistic; name another --val, or none"
        )


def read_class_names(classes: str, *checkpoints: str) -> tuple[str, ...]:
    """The class names that the flags of a command line stand for.

    Args:
        classes: of `--classes`: a list, see `utils.data.voc.read_classes`, or a checkpoint that
            knows its classes; may be empty.
        checkpoints: of other flags, used where `classes` is empty: the first one that is not. Where
            all are, it is the list that comes with the program.

    Raises:
        FileNotFoundError, ValueError: see `read_classes` and `load_network`; or the checkpoint does
            not tell the names.
    """
    checkpoint = "" if classes else next(filter(None, checkpoints), "")
    path = Path(checkpoint or classes or CLASSES)
    if not checkpoint and not is_checkpoint(path):
        return read_classes(path)
    content = load_tensors(path)
    with faults_of(path):
        names = names_in(content)
        if not names:
            raise ValueError(
                "does not tell the names of its classes; list them in a file, one a line, and "
                "pass it as --classes"
            )
    return names


def is_checkpoint(path: Path) -> bool:
    """Whether a file begins as torch's files do."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(max(map(len, MAGIC))).startswith(MAGIC)


def labels_named(names: Sequence[str], class_names: Sequence[str], flag: str) -> list[int]:
    """The labels, 1..K, of some classes; several names may be joined by commas.

    Raises:
        ValueError: `flag` names a class that is not among the K.
    """
    labels = []
    for name in ",".join(names).split(","):
        if not (plain := name.strip()):
            continue
        if plain not in class_names:
            hint = meant(plain, class_names) or f"; it has {', '.join(class_names)}"
            raise ValueError(f"{flag}: the network knows no class {plain!r}{hint}")
        labels.append(class_names.index(plain) + 1)
    return labels
