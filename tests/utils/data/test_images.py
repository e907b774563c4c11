"""Every kind of picture is drawn in `tmp_path` and read back."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from utils.data import images
from utils.data.images import fitted_size, image_size, load_padded, read_image

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


@pytest.fixture
def colours() -> np.ndarray:
    """2 high, 3 wide, every pixel another colour."""
    return np.uint8([[RED, GREEN, BLUE], [(0, 0, 0), (255, 255, 255), (10, 128, 200)]])


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "TIFF", "webp"])
def test_rgb_round_trip(tmp_path: Path, colours: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(colours).save(path, **({"lossless": True} if suffix == "webp" else {}))
    image = read_image(path)
    np.testing.assert_array_equal(image, colours)
    assert image.dtype == np.uint8
    assert image.flags.writeable
    assert image_size(path) == (3, 2)


def test_jpeg_agrees_with_opencv(tmp_path: Path) -> None:
    ramp = np.add.outer(np.arange(48), np.arange(64))[..., None] * np.array([1, 2, 0.5])
    Image.fromarray(ramp.astype(np.uint8)).save(tmp_path / "a.jpg")
    other = cv2.cvtColor(cv2.imread(str(tmp_path / "a.jpg")), cv2.COLOR_BGR2RGB)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - other).max() <= 2


def test_grey_and_one_bit(tmp_path: Path) -> None:
    Image.fromarray(np.uint8([[0, 100, 255]])).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(
        read_image(tmp_path / "grey.png"), np.uint8([[[0] * 3, [100] * 3, [255] * 3]])
    )
    Image.fromarray(np.array([[False, True]])).save(tmp_path / "bit.png")
    np.testing.assert_array_equal(
        read_image(tmp_path / "bit.png"), np.uint8([[[0] * 3, [255] * 3]])
    )


def test_palette_with_and_without_transparency(tmp_path: Path, colours: np.ndarray) -> None:
    palette = Image.fromarray(colours).quantize(8)
    palette.save(tmp_path / "plain.png")
    palette.save(tmp_path / "clear.png", transparency=bytes([0, 128, 255]))
    palette.save(tmp_path / "plain.gif")
    for name in ("plain.png", "clear.png", "plain.gif"):
        np.testing.assert_array_equal(read_image(tmp_path / name), colours)


def test_alpha_is_dropped(tmp_path: Path, colours: np.ndarray) -> None:
    alpha = np.uint8([[0, 128, 255], [0, 1, 2]])[..., None]
    Image.fromarray(np.concatenate([colours, alpha], axis=2)).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png"), colours)
    Image.merge("LA", [Image.new("L", (1, 1), 70), Image.new("L", (1, 1), 0)]).save(
        tmp_path / "la.png"
    )
    np.testing.assert_array_equal(read_image(tmp_path / "la.png"), np.uint8([[[70] * 3]]))


def test_cmyk(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "red.jpg", quality=100)
    image = read_image(tmp_path / "red.jpg")
    assert image.shape == (8, 8, 3)
    assert np.abs(image.astype(int) - RED).max() <= 3


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"deep.{suffix}"
    Image.fromarray(np.uint16([[0, 257, 128 * 257, 65535, 128, 129]])).save(path)
    # 8 bits times 257 are 16 bits; 128 rounds down, 129 up
    np.testing.assert_array_equal(read_image(path)[0, :, 0], [0, 1, 128, 255, 0, 1])


def test_sixteen_bit_colour(tmp_path: Path, colours: np.ndarray) -> None:
    cv2.imwrite(str(tmp_path / "deep.png"), colours[..., ::-1].astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png"), colours)


def test_pixels_without_a_range_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.float32([[0.5]])).save(tmp_path / "float.tif")
    with pytest.raises(ValueError, match=r"float\.tif: .*floating-point pixels have no fixed ran"):
        read_image(tmp_path / "float.tif")
    Image.fromarray(np.int32([[70000]])).save(tmp_path / "int.tif")
    with pytest.raises(ValueError, match=r"int\.tif: .*32-bit pixels have no fixed range"):
        read_image(tmp_path / "int.tif")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, suffix: str, orientation: int) -> None:
    # 16 wide, 8 high; the top left quarter is white
    stored = np.zeros((8, 16, 3), np.uint8)
    stored[:4, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / f"a.{suffix}", exif=exif)
    upright = [
        stored,
        stored[:, ::-1],
        stored[::-1, ::-1],
        stored[::-1],
        stored.transpose(1, 0, 2),
        stored[::-1].transpose(1, 0, 2),  # 6: turned clockwise, the last row is the first column
        stored[::-1, ::-1].transpose(1, 0, 2),
        stored[:, ::-1].transpose(1, 0, 2),
    ][orientation - 1]
    image = read_image(tmp_path / f"a.{suffix}")
    assert image.shape == upright.shape
    assert np.abs(image.astype(int) - upright).max() <= 8  # JPEG and WebP lose a little
    assert image_size(tmp_path / f"a.{suffix}") == (upright.shape[1], upright.shape[0])


@pytest.mark.parametrize("mode", ["L", "I;16", "RGBA", "CMYK"])
def test_turned_tiffs_of_every_kind(tmp_path: Path, mode: str) -> None:
    # [[0, 40, 80], [120, 160, 200]] turned clockwise; Pillow would map these from the disk.
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    image = Image.fromarray(pixels.astype(np.uint16) * 257 if mode == "I;16" else pixels)
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "a.tif"
    (image if mode == "I;16" else image.convert(mode)).save(path, exif=exif)
    assert image_size(path) == (2, 3)
    assert read_image(path)[..., 0].tolist() == [[120, 0], [160, 40], [200, 80]]


@pytest.mark.parametrize("value", [b"\3\0\1\0\0\0\0", b"\3\0\1\0\0\0\x09", b"\2\0\2\0\0\x006"])
def test_an_orientation_that_is_none_turns_nothing(tmp_path: Path, value: bytes) -> None:
    """0, 9, and the text "6": kind of the value, how many there are, and the first byte of it."""
    header = b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1"
    path = tmp_path / "a.jpg"
    picture = Image.fromarray(np.zeros((8, 16, 3), np.uint8))
    picture.save(path, exif=header + value + bytes(7))
    assert image_size(path) == (16, 8)
    assert read_image(path).shape == (8, 16, 3)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "tif", "webp"])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise).save(path)
    data = path.read_bytes()
    for kept in (len(data) // 2, len(data) - 60):
        path.write_bytes(data[:kept])
        with pytest.raises(ValueError, match=rf"a\.{suffix}: the image cannot be decoded"):
            read_image(path)


def test_no_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.png: no such image"):
        read_image(tmp_path / "none.png")
    (tmp_path / "text.jpg").write_text("hello")
    for read in (read_image, image_size):
        with pytest.raises(ValueError, match=r"text\.jpg: the image cannot be decoded"):
            read(tmp_path / "text.jpg")


def test_decompression_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for side in (10_000, 15_000):  # Pillow warns of the first and raises for the second
        Image.new("1", (side, side)).save(tmp_path / "bomb.png")
        for read in (read_image, image_size):
            with pytest.raises(ValueError, match=r"bomb\.png: .*it has over 89478485 pixels"):
                read(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # somebody switched Pillow's guard off
    monkeypatch.setattr(images, "MAX_PIXELS", 99)
    Image.new("L", (10, 10)).save(tmp_path / "small.png")
    with pytest.raises(ValueError, match=r"small\.png: .*it has over 99 pixels; make it"):
        read_image(tmp_path / "small.png")


def square(side: int) -> np.ndarray:
    """What `load_padded` is to overwrite."""
    return np.full((side, side, 3), 77, np.uint8)


def test_small_pictures_are_padded_not_grown(tmp_path: Path, colours: np.ndarray) -> None:
    Image.fromarray(colours).save(tmp_path / "a.png")
    padded = square(4)
    assert load_padded(tmp_path / "a.png", padded) == (2, 3)
    np.testing.assert_array_equal(padded[:2, :3], colours)
    assert padded[2:].max() == padded[:, 3:].max() == 0
    assert load_padded(tmp_path / "a.png", square(3)) == (2, 3)  # fits exactly


def test_large_pictures_shrink_by_area(tmp_path: Path) -> None:
    # Every fourth column is 200: the mean of each four is 50, between the middle two it is 0.
    stored = np.zeros((8, 16, 3), np.uint8)
    stored[:, 3::4] = 200
    Image.fromarray(stored).save(tmp_path / "a.png")
    padded = square(4)
    assert load_padded(tmp_path / "a.png", padded) == (2, 4)
    np.testing.assert_array_equal(padded[:2], np.full((2, 4, 3), 50))
    assert padded[2:].max() == 0


@pytest.mark.parametrize(
    ("size", "fitted"),
    [
        ((375, 500), (225, 300)),  # times 300 / 500
        ((500, 333), (300, 200)),  # 333 * 0.6 = 199.8
        ((300, 300), (300, 300)),
        ((10, 20), (10, 20)),  # never grown
    ],
)
def test_fitted_size_by_hand(size: tuple[int, int], fitted: tuple[int, int]) -> None:
    assert fitted_size(*size, 300) == fitted


def test_slivers_keep_a_pixel(tmp_path: Path) -> None:
    Image.new("RGB", (1000, 1), RED).save(tmp_path / "a.png")
    assert load_padded(tmp_path / "a.png", square(10)) == (1, 10)
