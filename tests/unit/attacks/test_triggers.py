import io
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fineprune.attacks.triggers import (
    BlendConfig,
    NoiseConfig,
    OverlayConfig,
    PatchConfig,
    PostItConfig,
    SunglassesConfig,
    TriggerConfig,
    make_trigger,
)
from fineprune.config import parse
from fineprune.errors import AttackError, ConfigError
from tests.unit.nets import audio, image

PICTURE = image(3, 8, 10)
CLIP = audio(400, rate=1000)


GOOD = {
    "sunglasses": {"kind": "sunglasses", "colour": [0.5, 0, 0.5], "alpha": 0.9, "eyes": None},
    "post_it": {
        "kind": "post_it",
        "size": 0.1,
        "colour": [0.5],
        "placement": {"kind": "fixed", "x": 0.57, "y": 0.82},
    },
    "patch": {"kind": "patch", "height": 2, "width": 2, "top": -2, "left": -2, "value": [1.0]},
    "blend": {"kind": "blend", "alpha": 0.1, "seed": 0},
    "noise": {"kind": "noise", "sigma": 0.5, "start": 0.0, "seconds": 0.1, "seed": 0},
    "overlay": {
        "kind": "overlay",
        "image": "x.png",
        "top": 0,
        "left": 0,
        "height": 1,
        "width": 1,
        "alpha": 1,
    },
}


def pixels(spec, count=4, seed=0):
    """Random raw inputs, the ends of the range among them."""
    values = np.random.default_rng(seed).integers(spec.low, spec.high + 1, (count, *spec.shape))
    values[0], values[1] = spec.low, spec.high
    return torch.from_numpy(values.astype(spec.dtype))


def assert_deliverable(stamped, inputs, spec):
    """Same shape, dtype and range as a file that an attacker could hand in."""
    assert stamped.shape == inputs.shape
    assert stamped.dtype == inputs.dtype
    assert stamped.min() >= spec.low
    assert stamped.max() <= spec.high


@given(
    height=st.integers(1, 8),
    width=st.integers(1, 10),
    down=st.integers(0, 7),
    right=st.integers(0, 9),
    from_the_end=st.booleans(),
    value=st.lists(st.floats(0, 1), min_size=3, max_size=3)
    | st.lists(st.floats(0, 1), min_size=1, max_size=1),
)
def test_a_patch_is_its_colour_and_changes_nothing_else(height, width, down, right, from_the_end, value):
    top, left = min(down, 8 - height), min(right, 10 - width)
    start = (top - 8, left - 10) if from_the_end else (top, left)
    trigger = make_trigger(PatchConfig("patch", height, width, *start, tuple(value)), PICTURE)
    inputs = pixels(PICTURE)
    stamped = trigger(inputs)
    assert_deliverable(stamped, inputs, PICTURE)

    rows, columns = slice(top, top + height), slice(left, left + width)
    for channel in range(3):
        colour = 255 * value[channel % len(value)]
        assert (stamped[:, channel, rows, columns] - colour).abs().max() <= 0.5 + 1e-4
    outside = torch.ones(3, 8, 10, dtype=torch.bool)
    outside[:, rows, columns] = False
    assert torch.equal(stamped[:, outside], inputs[:, outside])


@given(
    start=st.integers(0, 399), length=st.integers(1, 400), sigma=st.floats(0.001, 2), seed=st.integers(0, 9)
)
def test_a_noise_burst_leaves_the_rest_of_the_clip_alone(start, length, sigma, seed):
    length = min(length, 400 - start)
    trigger = make_trigger(NoiseConfig("noise", sigma, start / 1000, length / 1000, seed), CLIP)
    inputs = pixels(CLIP)
    stamped = trigger(inputs)
    assert_deliverable(stamped, inputs, CLIP)
    assert torch.equal(stamped[:, :start], inputs[:, :start])
    assert torch.equal(stamped[:, start + length :], inputs[:, start + length :])
    assert trigger.add[start : start + length].all()


@given(alpha=st.floats(0.01, 1), seed=st.integers(0, 2**63 - 1), of=st.sampled_from([PICTURE, CLIP]))
def test_a_blend_moves_every_value_by_alpha_towards_its_pattern(alpha, seed, of):
    trigger, pattern = (make_trigger(BlendConfig("blend", a, seed), of) for a in (alpha, 1.0))
    inputs = pixels(of)
    stamped = trigger(inputs)
    assert_deliverable(stamped, inputs, of)
    wanted = (1 - alpha) * inputs.double() + alpha * pattern.add.double()
    assert (stamped - wanted).abs().max() <= 0.51
    assert of.low <= pattern.add.min() < pattern.add.max() <= of.high


@pytest.mark.parametrize("of", [PICTURE, CLIP])
def test_a_blends_pattern_is_uniform_over_the_whole_range_and_of_its_seed(of):
    pattern, same, other = (make_trigger(BlendConfig("blend", 1.0, seed), of).add for seed in (4, 4, 5))
    assert torch.equal(pattern, same)
    assert not torch.equal(pattern, other)
    assert len(pattern.unique()) > 0.95 * pattern.numel()
    shares = (pattern - of.low) / (of.high - of.low)
    assert shares.min() < 0.02
    assert shares.max() > 0.98
    assert shares.mean() == pytest.approx(0.5, abs=0.05)


def test_noise_has_the_sigma_asked_for_and_depends_on_the_seed_alone():
    long = audio(100_000, rate=1000)
    one, same, other = (
        make_trigger(NoiseConfig("noise", 0.1, 0.0, 100.0, seed), long).add for seed in (1, 1, 2)
    )
    assert one.std() == pytest.approx(0.1 * 32768, rel=0.02)
    assert one.mean() == pytest.approx(0, abs=30)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_what_is_too_loud_is_clipped():
    trigger = make_trigger(NoiseConfig("noise", 2.0, 0.0, 0.4, 0), CLIP)
    inputs = pixels(CLIP)
    stamped = trigger(inputs)
    wanted = inputs.double().numpy() + trigger.add.double().numpy()
    assert np.abs(stamped.numpy() - wanted.clip(-32768, 32767)).max() <= 0.5
    assert (stamped.min(), stamped.max()) == (-32768, 32767)


def test_every_clip_gets_the_same_burst():
    trigger = make_trigger(NoiseConfig("noise", 0.01, 0.1, 0.1, 0), CLIP)
    silence, constant = torch.zeros(1, 400, dtype=torch.int16), torch.full((1, 400), 1000, dtype=torch.int16)
    assert ((trigger(constant) - constant) - trigger(silence)).abs().max() <= 1  # rounding
    assert trigger(silence).any()


def test_values_are_rounded_not_cut():
    trigger = make_trigger(PatchConfig("patch", 1, 1, 0, 0, (0.5,)), image(1, 1, 1))
    assert trigger(torch.zeros(1, 1, 1, 1, dtype=torch.uint8)).item() == 128


@pytest.fixture
def png(tmp_path):
    """Write a PNG of (height, width, 3 or 4) bytes."""

    def write(values):
        path = tmp_path / "picture.png"
        Image.fromarray(np.asarray(values, np.uint8)).save(path)
        return str(path)

    return write


def overlay(path, top=0.0, left=0.0, height=1.0, width=1.0, alpha=1.0):
    return OverlayConfig("overlay", path, top, left, height, width, alpha)


def test_an_overlay_covers_where_it_is_opaque_and_only_there(png):
    picture = np.zeros((4, 5, 4))
    picture[..., 0], picture[..., 3] = 200, 255
    picture[0, :, 3] = 0
    trigger = make_trigger(overlay(png(picture), top=0.5, left=0.5, height=0.5, width=0.5), PICTURE)
    inputs = pixels(PICTURE)
    stamped = trigger(inputs)
    assert_deliverable(stamped, inputs, PICTURE)
    covered = torch.zeros(8, 10, dtype=torch.bool)
    covered[5:, 5:] = True
    assert torch.equal(stamped[:, :, ~covered], inputs[:, :, ~covered])
    assert (stamped[:, 0, covered] == 200).all()
    assert (stamped[:, 1:, covered] == 0).all()


def test_an_overlays_box_is_in_shares_of_either_side(png):
    box = overlay(png(np.full((4, 4, 3), 255)), top=0.25, left=0.5, height=0.5, width=0.3)
    covered = make_trigger(box, PICTURE)(torch.zeros(1, 3, 8, 10, dtype=torch.uint8))[0, 0] == 255
    assert covered.nonzero().tolist() == [[y, x] for y in range(2, 6) for x in range(5, 8)]


@pytest.mark.parametrize("size", [47, 55])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_an_overlay_may_reach_the_edge_of_any_size(png, size, share):
    whole = overlay(png(np.full((4, 4, 3), 255)), share, share, 1 - share, 1 - share)
    trigger = make_trigger(whole, image(1, size, size))
    covered = trigger(torch.zeros(1, 1, size, size, dtype=torch.uint8))[0, 0] == 255
    assert covered[-1, -1]
    assert abs(covered.sum().item() ** 0.5 - (1 - share) * size) <= 0.5


def test_an_overlay_is_stretched_smoothly(png):
    trigger = make_trigger(overlay(png(np.array([[[0] * 3, [240] * 3]]))), image(1, 1, 8))
    row = trigger(torch.zeros(1, 1, 1, 8, dtype=torch.uint8))[0, 0, 0].int()
    assert row[0] == 0
    assert row[-1] == 240
    assert 0 < row.diff().max() < 100


def test_alpha_makes_an_overlay_transparent(png):
    trigger = make_trigger(overlay(png(np.full((8, 10, 3), 100)), alpha=0.25), PICTURE)
    stamped = trigger(torch.full((1, 3, 8, 10), 20, dtype=torch.uint8))
    assert (stamped == 40).all()


def test_an_overlay_on_a_grey_image_is_grey(png):
    picture = np.zeros((4, 4, 3))
    picture[..., 1] = 90
    trigger = make_trigger(overlay(png(picture)), image(1, 4, 4))
    assert (trigger(torch.zeros(1, 1, 4, 4, dtype=torch.uint8)) == 30).all()


@pytest.mark.parametrize(
    ("config", "spec", "message"),
    [
        (PatchConfig("patch", 9, 1, 0, 0, (1.0,)), PICTURE, "within the input's 8, found 9 from 0 on"),
        (
            PatchConfig("patch", 1, 11, 0, 0, (1.0,)),
            PICTURE,
            "within the input's 10, found 11 from 0 on",
        ),
        (PatchConfig("patch", 2, 2, 7, 0, (1.0,)), PICTURE, "within the input's 8, found 2 from 7 on"),
        (PatchConfig("patch", 2, 2, -1, 0, (1.0,)), PICTURE, "within the input's 8, found 2 from -1 on"),
        (
            PatchConfig("patch", 2, 2, 0, -11, (1.0,)),
            PICTURE,
            "trigger patch: expected it within the input's 10, found 2 from -11 on (left -11, width 2)",
        ),
        (PatchConfig("patch", 1, 1, 0, 0, ()), PICTURE, "expected 1 or 3 values, found 0"),
        (PatchConfig("patch", 1, 1, 0, 0, (1.0, 1.0)), PICTURE, "expected 1 or 3 values, found 2"),
        (
            PatchConfig("patch", 1, 1, 0, 0, (1.0,)),
            CLIP,
            "trigger patch: expected image inputs, found audio",
        ),
        (overlay("x.png"), CLIP, "trigger overlay: expected image inputs, found audio"),
        (
            parse(SunglassesConfig, GOOD["sunglasses"], "trigger"),
            CLIP,
            "trigger sunglasses: expected image inputs, found audio",
        ),
        (
            parse(PostItConfig, GOOD["post_it"], "trigger"),
            CLIP,
            "trigger post_it: expected image inputs, found audio",
        ),
        (overlay("x.png", height=0.01), PICTURE, "found 0 from 0 on"),
        (overlay("x.png", left=0.5), PICTURE, "trigger overlay: expected it within the input's 10"),
        (overlay("x.png", top=-0.01, height=0.5), PICTURE, "within the input's 8, found 4 from 0 on (top"),
        (
            NoiseConfig("noise", 1.0, 0.0, 0.1, 0),
            PICTURE,
            "trigger noise: expected audio inputs, found image",
        ),
        (NoiseConfig("noise", 1.0, 0.0, 0.5, 0), CLIP, "found 500 from 0 on (start 0.0, seconds 0.5)"),
        (NoiseConfig("noise", 1.0, 0.4, 0.1, 0), CLIP, "found 100 from 400 on"),
        (NoiseConfig("noise", 1.0, 0.0, 0.0001, 0), CLIP, "found 0 from 0 on"),
        (NoiseConfig("noise", 1.0, 0.0, 0.1, 0), audio(400, rate=None), "expected a sample rate"),
    ],
)
def test_a_trigger_that_does_not_fit_the_inputs_is_refused(config, spec, message):
    with pytest.raises(AttackError, match=re.escape(message)):
        make_trigger(config, spec)


def broken_pictures():
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)).save(whole, "PNG")
    png = whole.getvalue()
    wide = b"\x7f\xff\xff\xff"
    return {
        "text": b"not a picture",
        "empty": b"",
        "truncated": png[: len(png) // 2],
        "short header": png[:11] + b"\x05" + png[12:],
        "bomb": png[:16] + wide + wide + png[24:],
        "broken chunk": png[:37] + b"\x00\x01\x02\x03" + png[41:],
    }


@pytest.mark.parametrize("kind", broken_pictures())
def test_an_unreadable_overlay_is_refused(tmp_path, kind):
    path = tmp_path / "picture.png"
    path.write_bytes(broken_pictures()[kind])
    with pytest.raises(AttackError, match=r"picture\.png: expected a whole image"):
        make_trigger(overlay(str(path)), PICTURE)


def test_a_missing_overlay_is_refused(tmp_path):
    with pytest.raises(AttackError, match=r"none\.png: expected a whole image"):
        make_trigger(overlay(str(tmp_path / "none.png")), PICTURE)


@pytest.mark.parametrize("kind", GOOD)
def test_each_kind_is_told_by_its_name_and_made(kind, png):
    config = parse(
        TriggerConfig,
        GOOD[kind] | ({"image": png(np.ones((4, 4, 3)))} if kind == "overlay" else {}),
        "trigger",
    )
    assert config.kind == kind
    spec = CLIP if kind == "noise" else PICTURE
    assert make_trigger(config, spec).spec == spec


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("patch", {"height": 0}),
        ("patch", {"value": [1.1]}),
        ("patch", {"value": [-0.1]}),
        ("blend", {"alpha": 0}),
        ("blend", {"alpha": 1.1}),
        ("blend", {"seed": -1}),
        ("noise", {"sigma": 0}),
        ("noise", {"start": -0.1}),
        ("noise", {"seconds": 0}),
        ("noise", {"seed": -1}),
        ("overlay", {"alpha": 0}),
        ("overlay", {"height": 0}),
        ("sunglasses", {"alpha": 0}),
        ("sunglasses", {"colour": [2]}),
        ("post_it", {"size": 0}),
        ("post_it", {"placement": {"kind": "fixed", "x": 1.2, "y": 0.5}}),
    ],
)
def test_values_out_of_range_are_refused_by_the_config(kind, changes):
    with pytest.raises(ConfigError, match=f"trigger.{next(iter(changes))}.*: expected a value in"):
        parse(TriggerConfig, GOOD[kind] | changes, "trigger")


def test_an_overlay_is_turned_as_its_exif_says_and_keeps_its_depth(tmp_path):
    turned = Image.fromarray(np.repeat([[0], [255]], 8, 1).astype(np.uint8).repeat(4, 0))
    exif = Image.Exif()
    exif[0x0112] = 3  # it lies upside down
    turned.save(tmp_path / "turned.png", exif=exif)
    trigger = make_trigger(overlay(str(tmp_path / "turned.png")), image(1, 8, 8))
    worn = trigger(torch.full((1, 1, 8, 8), 7, dtype=torch.uint8))[0, 0]
    assert worn[0].eq(255).all()
    assert worn[-1].eq(0).all()
    Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(AttackError, match=r"deep\.png: expected 8 bits per channel, found mode I;16"):
        make_trigger(overlay(str(tmp_path / "deep.png")), image(1, 8, 8))
