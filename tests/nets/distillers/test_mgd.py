"""Masked generative distillation: by hand, by a slow loop, and the randomness of its masks."""

import itertools

import pytest
import torch

from nets.distillers.mgd import mixed, uniform
from tests.nets.distillers.scenes import (
    STUDENT,
    TEACHER,
    features,
    identity,
    lesson,
    made,
    rearranged,
    single,
)


def generators(distiller, centre: float) -> None:
    """Convolutions that multiply each channel by `centre` and look at no neighbour."""
    for layer in (layer for g in distiller.generators for layer in (g[0], g[2])):
        torch.nn.init.zeros_(layer.bias)
        torch.nn.init.zeros_(layer.weight)
        for c in range(len(layer.weight)):
            layer.weight.data[c, c, 1, 1] = centre


class TestMaskedGenerative:
    def test_hand_worked(self):
        # Nothing is masked and G doubles twice: 4 x (1, 2) = (4, 8); ((4 - 1)^2 + (8 - 6)^2) / 2.
        distiller = identity(made("mgd", [1], [1], mask=0))
        generators(distiller, 2)
        told = lesson()._replace(rows=torch.tensor([3]))
        value = distiller(single([[1.0, 2]]), single([[1.0, 6]]), told)
        assert value.item() == pytest.approx(6.5)

    @pytest.mark.parametrize("norm", [False, True])
    def test_against_a_slow_loop(self, norm):
        distiller = made("mgd", STUDENT, TEACHER, mask=0.4, norm=norm, maps=(0, 1)).double()
        told = lesson()
        pair = [features(c, i, torch.float64) for i, c in enumerate((STUDENT, TEACHER))]
        values = []
        for k in (0, 1):
            s, t = pair[0].features[k].detach(), pair[1].features[k].detach()
            size, adapter, generator = s.shape[-1], distiller.adapters[k], distiller.generators[k]
            chance = uniform(told.rows, k, size * size)
            made_maps = []
            for b in range(2):
                masked = torch.zeros(1, t.shape[1], size, size, dtype=torch.float64)
                for y, x in itertools.product(range(size), range(size)):
                    if chance[b, y * size + x] >= 0.4:
                        weight = adapter.weight[:, :, 0, 0]
                        masked[0, :, y, x] = weight @ s[b, :, y, x] + adapter.bias
                made_maps.append(generator(masked)[0])
            made_map = torch.stack(made_maps)
            total = 0.0
            for c in range(t.shape[1]):
                ours, theirs = made_map[:, c], t[:, c]
                if norm:
                    ours, theirs = (
                        (m - m.mean()) / (m.var(correction=0) + 1e-6).sqrt() for m in (ours, theirs)
                    )
                total += sum(d**2 for d in (ours - theirs).flatten().tolist())
            values.append(total / t.numel())
        assert distiller(*pair, told).item() == pytest.approx(sum(values) / 2, rel=1e-9)

    def test_masks_follow_from_the_row_alone(self):
        distiller = made("mgd", STUDENT, TEACHER)
        pair = [
            said._replace(features=tuple(f[:1].expand(2, -1, -1, -1) for f in said.features))
            for said in (features(STUDENT, 0), features(TEACHER, 1))
        ]
        one, two = lesson(), lesson()._replace(rows=torch.tensor([2**40 + 5, 11]))
        other = lesson()._replace(rows=torch.tensor([11, 6]))
        torch.testing.assert_close(distiller(*pair, one), distiller(*pair, two))
        torch.testing.assert_close(distiller(*pair, one), distiller(*pair, rearranged(one, [1, 0])))
        assert not torch.equal(distiller(*pair, one), distiller(*pair, other))

    def test_masks_of_a_map_do_not_depend_on_which_others_are_looked_at(self):
        def value(*maps):
            distiller = identity(made("mgd", TEACHER, TEACHER, maps=maps))
            generators(distiller, 1)
            return distiller(features(TEACHER, 0), features(TEACHER, 1), lesson())

        torch.testing.assert_close(value(0, 1), (value(0) + value(1)) / 2)

    def test_the_host_generator_is_left_alone(self):
        distiller, before = made("mgd", STUDENT, TEACHER), torch.get_rng_state()
        distiller(features(STUDENT, 0), features(TEACHER, 1), lesson())
        assert torch.equal(torch.get_rng_state(), before)

    def test_norm_takes_the_teachers_scale_away(self):
        distiller = made("mgd", STUDENT, TEACHER, norm=True)
        student, teacher = features(STUDENT, 0), features(TEACHER, 1)
        louder = teacher._replace(features=tuple(100 * f for f in teacher.features))
        torch.testing.assert_close(
            distiller(student, louder, lesson()),
            distiller(student, teacher, lesson()),
            rtol=1e-3,
            atol=1e-3,
        )

    def test_without_alignment(self):
        distiller = made("mgd", TEACHER, TEACHER, align=False)
        names = {name.partition(".")[0] for name, _ in distiller.named_parameters()}
        assert names == {"generators"}
        assert distiller(features(TEACHER, 0), features(TEACHER, 1), lesson()) > 0
        made("mgd", STUDENT, TEACHER, align=False, maps=(1,))  # 16 and 16
        with pytest.raises(ValueError, match="needs equal channels, but source map 0 has 8 in the"):
            made("mgd", STUDENT, TEACHER, align=False)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"mask": 1}, "mask must be below 1"),
            ({"mask": -0.1}, "mask must be a number of at least 0"),
            ({"mask": "half"}, "mask must be a number of at least 0"),
            ({"align": "yes"}, "mgd: align must be one of True, False, not 'yes'"),
            ({"norm": 2}, "mgd: norm must be one of True, False, not 2"),
        ],
    )
    def test_options_out_of_range_are_refused(self, options, message):
        with pytest.raises(ValueError, match=message):
            made("mgd", STUDENT, TEACHER, **options)


class TestUniform:
    def test_hand_worked(self):
        # In plain Python's unbounded integers.
        def mix(x: int) -> int:
            x = ((x ^ x >> 16) * 0x21F0AAAD) % 2**32
            x = ((x ^ x >> 15) * 0x735A2D97) % 2**32
            return x ^ x >> 15

        row, stream = 2**61 + 2**35 + 12345, 4
        start = mix(row % 2**32 ^ mix(row >> 32 ^ stream))
        expected = [(mix((start + i * 0x9E3779B1) % 2**32) >> 8) / 2**24 for i in range(5)]
        assert uniform(torch.tensor([row]), stream, 5)[0].tolist() == expected

    def test_rows_and_streams_are_alike_and_apart(self):
        rows = torch.cat([torch.arange(40), torch.arange(40) * 2**32, 2**62 + torch.arange(40)])
        for stream in range(6):
            numbers = uniform(rows, stream, 1444)
            assert ((numbers >= 0) & (numbers < 1)).all()
            # 173,280 numbers in 20 bins: chi^2 with 19 degrees of freedom, 43.8 at p = 0.001.
            counts = torch.histc(numbers, 20, 0, 1)
            expected = numbers.numel() / 20
            assert ((counts - expected) ** 2 / expected).sum() < 43.8
            # Of means of 1444 numbers the deviation is 1 / sqrt(12 x 1444) = 0.0076.
            assert (numbers.mean(1) - 0.5).abs().max() < 5 * 0.0076
            assert (numbers.mean(0) - 0.5).abs().max() < 5 / (12 * len(rows)) ** 0.5
            # Neighbours, rows and streams do not follow each other: |r| < 5 / sqrt(n).
            other = uniform(rows, stream + 1, 1444)
            for a, b in (
                (numbers[:, 1:], numbers[:, :-1]),
                (numbers[1:], numbers[:-1]),
                (numbers, other),
            ):
                r = torch.corrcoef(torch.stack((a.flatten(), b.flatten())))[0, 1]
                assert r.abs() < 5 / a.numel() ** 0.5

    def test_mixing_is_a_permutation(self):
        # Of 2^18 different inputs none meet; each input bit moves about half of the output's.
        bits = torch.arange(2**18) * 9973
        assert len(mixed(bits).unique()) == len(bits)
        assert ((mixed(bits) >= 0) & (mixed(bits) < 2**32)).all()
        for bit in range(32):
            changed = mixed(bits[:4096]) ^ mixed(bits[:4096] ^ (1 << bit))
            share = sum((changed >> k & 1).double().mean() for k in range(32)) / 32
            assert share.item() == pytest.approx(0.5, abs=0.02)
