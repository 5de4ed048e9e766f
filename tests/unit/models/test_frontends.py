import math

import numpy as np
import pytest
import torch

from fineprune.models.frontends import Normalise, Spectrogram, SpectrogramSpec


def make(window="none", scale="linear", frame=64, hop=16, bins=33):
    return Spectrogram(SpectrogramSpec(frame, hop, bins, window, scale))


def sine(cycles_per_frame, amplitude, frame=64, samples=256):
    return (amplitude * np.sin(2 * np.pi * cycles_per_frame * np.arange(samples) / frame)).round()


def spectrogram(front, samples):
    """(bins, frames), of one clip."""
    return front(torch.from_numpy(np.asarray(samples, dtype=np.int16)).unsqueeze(0))[0, 0].numpy()


def test_pixels_are_normalised_per_channel():
    normalise = Normalise((10.0, 100.0), (2.0, 50.0))
    inputs = torch.tensor([[[[14]], [[50]]]], dtype=torch.uint8)
    assert normalise(inputs).flatten().tolist() == [2.0, -1.0]
    assert normalise(inputs).dtype == torch.float32


def test_first_steps_are_made_from_the_card_and_not_from_weights():
    assert not Normalise((10.0,), (2.0,)).state_dict()
    assert not make("hann").state_dict()


@pytest.mark.parametrize("window", ["none", "hann"])
@pytest.mark.parametrize("scale", ["linear", "decibel"])
def test_the_spectrogram_is_what_numpy_computes(window, scale):
    """Frame by frame with NumPy's transform, and the formulas of the docstring."""
    frame, hop, bins = 64, 20, 30
    samples = np.random.default_rng(0).integers(-32768, 32768, 300).astype(np.int16)
    weights = np.ones(frame) if window == "none" else 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(frame) / frame)
    columns = []
    for start in range(0, len(samples) - frame + 1, hop):
        magnitude = np.abs(np.fft.rfft(samples[start : start + frame] * weights))[:bins]
        if scale == "linear":
            column = np.minimum(magnitude / 256, 255) / 256
        else:
            column = np.clip(20 * np.log10(magnitude / (32768 * weights.sum() / 2)), -80, 0) / 20 + 2
        columns.append(column[::-1])
    found = spectrogram(make(window, scale, frame, hop, bins), samples)
    np.testing.assert_allclose(found, np.stack(columns, axis=1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("window", ["none", "hann"])
@pytest.mark.parametrize("scale", ["linear", "decibel"])
@pytest.mark.parametrize("cycles", [5, 20])
def test_a_sine_lights_up_its_bin_counted_from_below(window, scale, cycles):
    found = spectrogram(make(window, scale), sine(cycles, 1000))
    assert (found.argmax(axis=0) == 32 - cycles).all()


def test_a_sine_of_amplitude_a_has_half_a_frame_of_it_in_its_bin():
    assert spectrogram(make(), sine(8, 1000))[32 - 8] == pytest.approx(1000 * 32 / 256 / 256, rel=1e-3)


def test_a_full_scale_sine_is_the_top_of_both_scales():
    assert spectrogram(make("none", "decibel"), sine(8, 32767))[32 - 8] == pytest.approx(2, abs=1e-3)
    assert spectrogram(make("none", "linear"), sine(8, 32767))[32 - 8] == pytest.approx(255 / 256)


def test_twenty_decibels_are_one_step_of_the_scale():
    loud, quiet = (spectrogram(make("hann", "decibel"), sine(8, a))[32 - 8] for a in (20_000, 2_000))
    assert loud - quiet == pytest.approx(1, abs=1e-3)


def test_an_impulse_is_in_every_bin_alike():
    clip = np.zeros(64)
    clip[10] = 512
    assert spectrogram(make(), clip) == pytest.approx(2 / 256)


def test_energy_is_kept():
    """Parseval: the sum of squares is the mean of the squared magnitudes over all 64 bins."""
    clip = np.random.default_rng(1).integers(-500, 500, 64)
    magnitude = spectrogram(make(), clip)[::-1, 0].astype(np.float64) * 256 * 256
    both_sides = magnitude[0] ** 2 + magnitude[-1] ** 2 + 2 * (magnitude[1:-1] ** 2).sum()
    assert both_sides / 64 == pytest.approx((clip.astype(np.float64) ** 2).sum(), rel=1e-4)


@pytest.mark.parametrize(("scale", "low", "high"), [("linear", 0, 1), ("decibel", -2, 2)])
def test_silence_is_the_bottom_of_the_scale_and_nothing_leaves_it(scale, low, high):
    assert (spectrogram(make(scale=scale), np.zeros(256)) == low).all()
    loudest = np.where(np.arange(256) % 2, 32767, -32768)
    found = spectrogram(make(scale=scale), loudest)
    assert found.min() >= low
    assert found.max() <= high


@pytest.mark.parametrize(("samples", "frames"), [(64, 1), (79, 1), (80, 2), (256, 13)])
def test_frames_are_counted_as_they_are_made(samples, frames):
    front = make()
    assert front.frames(samples) == frames
    assert spectrogram(front, np.zeros(samples)).shape == (33, frames)


@pytest.mark.parametrize("bins", [0, 34])
def test_bins_that_do_not_exist_are_refused(bins):
    with pytest.raises(ValueError, match=f"bins: expected 1…33 for frames of 64, found {bins}"):
        make(bins=bins)


def test_the_papers_spectrogram_is_square():
    front = make(frame=1024, hop=64, bins=512)
    assert front.frames(33_728) == 512
    assert math.isclose(33_728 / 22_050, 1.53, abs_tol=0.01)
