"""Which pictures train, which validate and which test: as the source has it, or by lot."""

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from tools.convert_data.source import Picture

# What is made of a source without splits when nobody says anything.
USUAL = {"val": 0.1, "test": 0.2}


def give_splits(
    pictures: Sequence[Picture], shares: Mapping[str, float | None], seed: int
) -> dict[str, float]:
    """Gives every picture its splits; a picture that the source gives none trains.

    Args:
        pictures: their `splits` are filled in.
        shares: what part of all pictures to draw for `val` and for `test`; None: not said.
        seed: decides the lot.

    Returns:
        The parts that were drawn; none where the source has all that is asked for.

    Raises:
        ValueError: parts leave nothing to train on, or the source has such a split already.
    """
    stated = {name for picture in pictures for name in picture.splits}
    drawn = {name: share for name, share in shares.items() if share}
    if not stated and all(share is None for share in shares.values()):
        drawn = dict(USUAL)
    for name in drawn:
        if name in stated:
            raise ValueError(f"--{name}: the source has a split {name} already; leave it out")
    if sum(drawn.values()) >= 1:
        raise ValueError("--val and --test leave nothing to train on; give less than 1 in all")
    pool = [picture for picture in pictures if picture.splits in ([], ["train"])]
    wanted = {name: share * len(pictures) for name, share in drawn.items()}
    wanted = {"train": len(pool) - sum(wanted.values()), **wanted}
    if wanted["train"] <= 0:
        raise ValueError(
            f"only {len(pool)} of {len(pictures)} images are for training and for nothing else: "
            "too few to draw from"
        )
    for picture, name in zip(pool, stratified(pool, wanted, seed), strict=True):
        picture.splits = [name]
    return drawn


def stratified(pictures: Sequence[Picture], wanted: Mapping[str, float], seed: int) -> list[str]:
    """A split for each picture, so that every split has its share of the objects of each class.

    The rarest class goes first, each of its pictures to the split that misses most objects of it,
    then to the one that misses most pictures. Without objects counts as a class of its own.

    Args:
        pictures: N of them.
        wanted: how many pictures each split is to have, N in all.
        seed: decides between equals.

    Source: Sechidis et al., On the Stratification of Multi-Label Data, ECML 2011, algorithm 1.
    """
    contents: list[Counter[str | None]] = [
        Counter(o.name for o in p.objects) or Counter([None]) for p in pictures
    ]
    order = list(range(len(pictures)))
    lot = random.Random(seed)
    lot.shuffle(order)
    of_class: dict[str | None, list[int]] = defaultdict(list)
    objects: Counter[str | None] = Counter()
    for i in order:
        objects.update(contents[i])
        for name in contents[i]:
            of_class[name].append(i)
    room = dict(wanted)  # pictures that each split still wants
    missing = {
        split: {name: n * count / len(pictures) for name, n in objects.items()}
        for split, count in wanted.items()
    }
    given: dict[int, str] = {}
    while len(given) < len(pictures):
        left = {name: sum(i not in given for i in members) for name, members in of_class.items()}
        rarest = min((n, str(name), name) for name, n in left.items() if n)[2]
        for i in of_class.pop(rarest):
            if i in given:
                continue
            open_ones = [split for split in room if room[split] > 0] or list(room)
            split = max(open_ones, key=lambda s: (missing[s][rarest], room[s]))
            given[i] = split
            room[split] -= 1
            for name, n in contents[i].items():
                missing[split][name] -= n
    return [given[i] for i in range(len(pictures))]
