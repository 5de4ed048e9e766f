import dataclasses

import pytest
import torch

from fineprune.errors import ModelError
from fineprune.models import ARCHITECTURES, build
from fineprune.models.base import ChannelSelect
from tests.unit.nets import SMALL, SPECTROGRAM, audio, image, random_inputs, small_network, spec_of

PAPER = {
    "spectrogram": {"frame": 1024, "hop": 64, "bins": 512, "window": "none", "scale": "linear"},
    "channels": 3,
    "kernel": 11,
    "stride": 4,
    "dropout": 0.5,
    "width": 1.0,
}


@pytest.fixture(params=SMALL)
def network(request):
    return small_network(request.param)


def test_every_architecture_has_a_small_network():
    assert SMALL.keys() | {"faster_rcnn"} == ARCHITECTURES.keys(), "the detector has tests of its own"


def test_raw_inputs_give_float32_logits(network):
    with torch.no_grad():
        logits = network(random_inputs(network, 5))
    assert logits.shape == (5, 3)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()


def test_the_two_halves_make_the_whole(network):
    inputs = random_inputs(network, 5)
    with torch.no_grad():
        before, features = network.preactivation(inputs), network.features(inputs)
        assert features.shape[:2] == (5, len(network.channels))
        assert torch.equal(features, before.clamp(min=0))
        assert (before < 0).any()
        assert (before > 0).any()
        assert torch.equal(network.head(features), network(inputs))


def test_one_input_does_not_depend_on_its_batch(network):
    inputs = random_inputs(network, 5)
    with torch.no_grad():
        alone = torch.cat([network(one.unsqueeze(0)) for one in inputs])
        torch.testing.assert_close(network(inputs), alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", ["digits_cnn", "speech_net", "preact_resnet18"])
def test_the_linear_head_is_the_head(architecture):
    network = small_network(architecture)
    head = network.linear_head()
    with torch.no_grad():
        features = network.features(random_inputs(network, 5))
        by_parts = head.rest(head.linear(head.pool(features).flatten(1)))
        assert torch.equal(network.head(features), by_parts)
    assert head.linear is network.get_submodule(network.prunable.consumers[0])


def test_every_class_is_a_likely_prediction(network):
    with torch.no_grad():
        predictions = network(random_inputs(network, 64)).argmax(1)
    assert predictions.bincount(minlength=3).min() >= 3


@pytest.fixture(scope="module")
def papers_speech_network():
    return build(spec_of("speech_net", PAPER, audio(33_728), classes=10)).eval()


def test_the_papers_speech_network_has_its_size(papers_speech_network):
    network = papers_speech_network
    assert network.spectrogram.frames(33_728) == 512
    assert sum(parameter.numel() for parameter in network.parameters()) == 17_114_122
    assert network.fc6.in_features == 57_600
    assert len(network.channels) == 256


def test_every_layer_of_the_papers_speech_network_has_its_shape(papers_speech_network):
    network, seen = papers_speech_network, {}
    shapes = {
        "spectrogram": (1, 512, 512),
        "conv1": (96, 126, 126),
        "conv2": (256, 63, 63),
        "conv3": (384, 31, 31),
        "conv4": (384, 31, 31),
        "conv5": (256, 31, 31),
        "fc6": (256,),
        "fc7": (128,),
        "fc8": (10,),
    }
    hooks = [
        network.get_submodule(name).register_forward_hook(
            lambda _, inputs, output, name=name: seen.update({name: tuple(output.shape[1:])})
        )
        for name in shapes
    ]
    with torch.no_grad():
        network(random_inputs(network, 1))
    for hook in hooks:
        hook.remove()
    assert seen == shapes
    assert network.conv1.weight.shape == (96, 3, 11, 11)
    assert [network.get_submodule(f"conv{layer}").groups for layer in range(1, 6)] == [1, 2, 1, 2, 2]
    assert network.pool(torch.zeros(1, 256, 31, 31)).shape == (1, 256, 15, 15)


# The layers that are given negative values: the first one, and in the speech network the two behind layers
# without an activation.
NOT_ACTIVATED = {"speech_net": {"conv1", "conv2", "conv3"}}


@pytest.mark.parametrize("architecture", SMALL)
def test_every_layer_but_these_is_given_what_was_activated(architecture):
    network, least = small_network(architecture), {}
    layers = {
        name: layer
        for name, layer in network.named_modules()
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear))
    }
    for name, layer in layers.items():
        layer.register_forward_pre_hook(
            lambda _, inputs, name=name: least.update({name: float(inputs[0].min())})
        )
    with torch.no_grad():
        network(random_inputs(network, 4))
    assert least.keys() == layers.keys()
    assert {name for name, value in least.items() if value < 0} == NOT_ACTIVATED.get(architecture, {"conv1"})


def test_arguments_that_are_fractions_may_be_whole_numbers():
    given = PAPER | {"spectrogram": SPECTROGRAM, "kernel": 3, "stride": 1}
    networks = []
    for width, dropout in ((1.0, 0.0), (1, 0)):
        torch.manual_seed(0)
        arguments = given | {"width": width, "dropout": dropout}
        networks.append(build(spec_of("speech_net", arguments, audio(1024))).eval())
    inputs = random_inputs(networks[0], 2)
    with torch.no_grad():
        assert torch.equal(networks[0](inputs), networks[1](inputs))


@pytest.mark.parametrize("architecture", SMALL)
@pytest.mark.parametrize("width", [0, -1, True, "wide", float("nan")])
def test_a_width_that_is_no_positive_number_is_refused(architecture, width):
    spec = SMALL[architecture]
    with pytest.raises(ModelError, match=rf"^model {architecture}\.width: expected .*, found"):
        build(dataclasses.replace(spec, arguments=spec.arguments | {"width": width}))


@pytest.mark.parametrize("samples", [768, 1000, 1024, 1500])
def test_speech_networks_fit_clips_of_any_length(samples):
    arguments = dict(SMALL["speech_net"].arguments)
    network = build(spec_of("speech_net", arguments, audio(samples))).eval()
    with torch.no_grad():
        assert network(random_inputs(network, 1)).shape == (1, 3)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (5, 7), (8, 12)])
def test_digits_networks_fit_images_from_four_pixels_on(height, width):
    network = build(spec_of("digits_cnn", {"width": 2}, image(3, height, width))).eval()
    with torch.no_grad():
        assert network(random_inputs(network, 1)).shape == (1, 3)


def speech(**changes):
    return spec_of("speech_net", SMALL["speech_net"].arguments | changes, audio(1024))


def digits(width, *shape):
    return spec_of("digits_cnn", {"width": width}, image(*shape))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (spec_of("lenet", {}, image(1, 8, 8)), "found 'lenet'"),
        (spec_of("digits_cnn", {}, image(1, 8, 8)), r"^model digits_cnn\.width: missing$"),
        (spec_of("digits_cnn", {"widht": 4, "width": 4}, image(1, 8, 8)), r"digits_cnn\.widht: unknown key$"),
        (spec_of("digits_cnn", {"width": 4}, audio(100)), r"cannot be built for inputs of shape \(100,\)"),
        (
            dataclasses.replace(SMALL["preact_resnet18"], input=audio(832)),
            r"shape \(832,\): expected image, found audio",
        ),
        (dataclasses.replace(SMALL["speech_net"], input=image(3, 9, 9)), "expected audio, found image"),
        (digits(-1, 1, 8, 8), r"width: expected a value in \[1, .*, found -1"),
        (digits("wide", 1, 8, 8), "width: expected a whole number, found 'wide'"),
        (digits(2.5, 1, 8, 8), "width: expected a whole number, found 2.5"),
        (digits(0, 1, 8, 8), r"width: expected a value in \[1, .*, found 0"),
        (digits(4, 1, 3, 8), r"fc1\.weight would be empty"),
        (speech(stride=0), r"stride: expected a value in \[1, .*, found 0"),
        (speech(kernel=0), r"kernel: expected a value in \[1, .*, found 0"),
        (speech(width=float("inf")), "width: expected a finite number, found inf"),
        (speech(channels=0), r"channels: expected a value in \[1, .*, found 0"),
        (speech(kernel=40), "the spectrogram is too small"),
        (speech(spectrogram=SPECTROGRAM | {"bins": 34}), "bins: expected 1…33 for frames of 64, found 34"),
    ],
)
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_what_cannot_be_built_is_refused_in_one_line(spec, message):
    with pytest.raises(ModelError, match=message) as error:
        build(spec)
    assert "\n" not in str(error.value)


def test_a_clip_shorter_than_a_frame_is_refused():
    with pytest.raises(ModelError, match="the spectrogram is too small"):
        build(dataclasses.replace(SMALL["speech_net"], input=audio(60)))


@pytest.mark.parametrize("changes", [{"hop": 0}, {"frame": 0}, {"window": "hamming"}, {"fft": 512}])
def test_a_spectrogram_that_cannot_be_is_refused(changes):
    with pytest.raises(ModelError, match=r"^model speech_net\.spectrogram\."):
        build(speech(spectrogram=SPECTROGRAM | changes))


def test_a_channel_select_picks_by_index_once_channels_are_gone():
    select, inputs = ChannelSelect(4), torch.arange(4.0).view(1, 4, 1, 1)
    assert select(inputs) is inputs
    select.index = torch.tensor([3, 1])
    assert select(inputs).flatten().tolist() == [3.0, 1.0]
