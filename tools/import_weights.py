"""Turns another project's SSD300 checkpoint into one of ours.

python -m tools.import_weights ssd300_mAP_77.43_v2.pth logs/amdegroot.pth

Every script reads such files as they are; a converted one also holds its class names.
"""

from argparse import RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path

from nets.foreign.convert import PROJECTS, convert
from nets.foreign.networks import check_number, default_names, foreign_network
from nets.inputs import read_class_names
from nets.saved import describe_network
from utils.cli import Parser, run
from utils.engine.runs.checkpoint import is_ours, load_tensors, save_checkpoint
from utils.files import check_folder


def main(arguments: Sequence[str] | None) -> None:
    """Source -> what it is -> destination."""
    parser = Parser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("source", metavar="SRC", help="checkpoint of another project")
    parser.add_argument("destination", metavar="DST", help="checkpoint to write")
    parser.add_argument("--classes", default="", help="class list, in the order of SRC's columns")
    parser.add_argument(
        "--project",
        default="",
        choices=[row.name for row in PROJECTS],
        help="what SRC is, if its keys are not enough or misleading",
    )
    config = parser.parse_args(arguments)
    print(import_weights(config.source, config.destination, config.classes, config.project))


def import_weights(
    source: str | Path, destination: str | Path, classes: str = "", project: str = ""
) -> str:
    """Writes `source` as `destination`; returns what it was, for people.

    Args:
        source: a file that `nets.foreign.convert` recognises.
        destination: a name that is free.
        classes: see `nets.inputs.read_class_names`; needed where the names are unknown.
        project: as for `convert`.

    Raises:
        FileExistsError: there is a file at `destination`.
        FileNotFoundError: there is none at `source` or `classes`.
        ValueError: `source` is one of ours, or of no known project, or does not fit.
    """
    if Path(destination).exists():
        raise FileExistsError(f"{destination} exists; choose another name")
    check_folder(Path(destination).parent, "DST in")
    content = load_tensors(source)
    if is_ours(content):
        raise ValueError(f"{source}: is a checkpoint of this program already")
    try:
        foreign = convert(content, project)
        names = read_class_names(classes) if classes else default_names(foreign)
        check_number(foreign.classes, names)
        model = foreign_network(foreign)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    Path(destination).parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(destination, {"model": model.state_dict(), **describe_network(model, names)})
    return (
        f"project    {foreign.project}\n"
        f"backbone   {foreign.backbone}\n"
        f"layout     {foreign.layout}, {len(model.priors)} priors\n"
        f"classes    {foreign.classes}: {', '.join(names)}\n"
        f"input      RGB 0..255, minus {rounded(foreign.mean)}, divided by {rounded(foreign.std)}\n"
        f"written to {destination}"
    )


def rounded(values: Sequence[float]) -> str:
    """Three numbers as people write them."""
    return f"({', '.join(f'{value:g}' for value in values)})"


if __name__ == "__main__":
    run(main)
