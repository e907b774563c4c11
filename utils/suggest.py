"""What was probably meant by a word that nobody knows."""

import difflib
from collections.abc import Iterable


def meant(word: str, known: Iterable[str]) -> str:
    """`; perhaps 'vgg16' is meant` for `"vgg"`, or nothing where no known word is close to it."""
    by_folded = {name.casefold(): name for name in known}
    close = difflib.get_close_matches(word.casefold(), by_folded, n=1)
    return f"; perhaps {by_folded[close[0]]!r} is meant" if close else ""
