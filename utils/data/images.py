"""Picture files of every kind -> upright uint8 RGB arrays.

Pillow decodes everything. OpenCV needs a fifth less time for a JPEG and gives the same bytes. But
it reads some damaged files that Pillow refuses, whether it notices a truncated one depends on its
version, it says nothing of why, and its decoder writes lines of its own to stderr.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")

# The largest picture Pillow takes for harmless: 1 GiB / 4 bytes / 3 channels, in pixels. It only
# warns of larger ones, and turning warnings into errors is not safe among threads: we check.
MAX_PIXELS = 89_478_485
Image.MAX_IMAGE_PIXELS = None
# Of damaged tags in a picture that can be read all the same; of others our errors speak.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


def image_size(path: str | Path) -> tuple[int, int]:
    """The `(width, height)` in pixels of the upright picture, from the file's header alone.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no picture, or has more than `MAX_PIXELS`.
    """
    with _opened(Path(path)) as image:
        width, height = image.size
        return (height, width) if _orientation(image) >= 5 else (width, height)


def orientation(path: str | Path) -> int:
    """How a picture lies in its file, as EXIF counts it: 1 upright, from 5 on its sides swapped.

    Raises:
        FileNotFoundError, ValueError: as `image_size`.
    """
    with _opened(Path(path)) as image:
        return _orientation(image)


def read_image(path: str | Path) -> npt.NDArray[np.uint8]:
    """The picture in a file, rotated upright by its EXIF data.

    Grey, palette, CMYK, 1-bit and 16-bit pictures become 8-bit RGB; 16 bits are scaled, not
    clipped. Transparency is ignored: the stored colour counts. Of an animation the first frame.

    Returns:
        `[H, W, 3]`, RGB.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no picture, truncated, broken, has more than `MAX_PIXELS`, or its pixels
            have no fixed range (floating point, 32-bit integers).
    """
    path = Path(path)
    with _opened(path) as image:
        upright = ImageOps.exif_transpose(image) if _orientation(image) > 1 else image
        return np.array(_to_rgb(upright))


def load_padded(path: str | Path, square: npt.NDArray[np.uint8]) -> tuple[int, int]:
    """`pad_to_square` of the picture in a file.

    Raises:
        FileNotFoundError, ValueError: as `read_image`.
    """
    return pad_to_square(read_image(path), square)


def pad_to_square(image: npt.NDArray[np.uint8], square: npt.NDArray[np.uint8]) -> tuple[int, int]:
    """Puts a picture into the top left corner of a square, shrunk only if it does not fit.

    The aspect ratio is kept to the nearest pixel, so a box in pixels of the picture is scaled by
    `w / width` and `h / height`.

    Args:
        image: `[H, W, 3]`.
        square: `[S, S, 3]`, S >= 1; overwritten, with zeros beside the picture.

    Returns:
        The `(h, w)` in pixels that the picture fills.
    """
    height, width = fitted_size(image.shape[0], image.shape[1], len(square))
    fits = image.shape[:2] == (height, width)
    square[:height, :width] = (
        image if fits else cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    )
    square[height:] = square[:height, width:] = 0
    return height, width


def fitted_size(height: int, width: int, side: int) -> tuple[int, int]:
    """The (height, width) in pixels of a picture shrunk, if need be, to fit a square of `side`."""
    scale = side / max(height, width)
    if scale >= 1:
        return height, width
    return max(1, round(height * scale)), max(1, round(width * scale))


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The opened picture; whatever goes wrong with it inside the block names the file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such image")
    try:
        # Not by its path: Pillow would map the pixels of a turned TIFF with its sides swapped.
        with path.open("rb") as file, Image.open(file) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"it has over {MAX_PIXELS} pixels; make it smaller")
            yield image
    # On broken bytes Pillow's plugins raise OSError, SyntaxError, ValueError, struct.error, ...
    except Exception as error:
        raise ValueError(f"{path}: the image cannot be decoded: {error}") from error


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation 1..8 that is still to be applied; from 5 on it swaps the two sides."""
    if image.format == "TIFF":
        image.load()  # applies the orientation and forgets it, as of Pillow 11
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # asking would decode the whole picture
    value = image.getexif().get(ExifTags.Base.Orientation)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _sixteen_to_eight_bits(image).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels have no fixed range; save it with 8 or 16 bits")
    image.load()
    image.info.pop("transparency", None)  # else Pillow warns of it, or keys the colour out
    return image.convert("RGB")


def _sixteen_to_eight_bits(image: Image.Image) -> Image.Image:
    """Pillow's own conversion clips at 255; 65535 / 255 is 257."""
    pixels = np.asarray(image).astype(np.int64)
    if pixels.min() < 0 or pixels.max() > 65535:
        raise ValueError("32-bit pixels have no fixed range; save it with 8 or 16 bits")
    return Image.fromarray(((pixels + 128) // 257).astype(np.uint8))
