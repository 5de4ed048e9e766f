import dataclasses

import pytest
import torch

from fineprune.errors import ModelError
from fineprune.models import ARCHITECTURES, build
from fineprune.models.base import ChannelSelect
from fineprune.models.preact_resnet import PreActBlock
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


def test_the_papers_speech_network_starts_uniform_with_a_variance_of_one_over_its_inputs(
    papers_speech_network,
):
    for layer in papers_speech_network.modules():
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
            inputs = layer.weight[0].numel()
            assert layer.weight.std().item() == pytest.approx(inputs**-0.5, rel=0.05)
            assert layer.weight.abs().max() <= 1.001 * (3 / inputs) ** 0.5
            assert not layer.bias.any()


def test_every_stage_of_the_residual_network_has_its_shape():
    with torch.device("meta"):
        network = build(spec_of("preact_resnet18", {"width": 64}, image(3, 32, 32), classes=10)).eval()
        seen = [network.conv1(torch.zeros(1, 3, 32, 32))]
        for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
            seen.append(stage(seen[-1]))
    assert [tuple(output.shape[1:]) for output in seen] == [
        (64, 32, 32),
        (64, 32, 32),
        (128, 16, 16),
        (256, 8, 8),
        (512, 4, 4),
    ]
    features = torch.rand(2, 4, 3, 3)
    torch.testing.assert_close(network.pool(features), features.mean((2, 3), keepdim=True))


def test_a_residual_block_adds_its_input_or_a_shortcut_from_what_was_activated():
    torch.manual_seed(0)
    same, wider, x = PreActBlock(4, 4, 1).eval(), PreActBlock(4, 8, 2).eval(), torch.randn(2, 4, 6, 6)
    with torch.no_grad():
        for block in (same, wider):
            block.conv2.weight.zero_()
        assert torch.equal(same(x), x)
        assert PreActBlock(4, 4, 2).eval()(x).shape == (2, 4, 3, 3)
        assert torch.equal(wider(x), wider.shortcut(wider.bn1(x).relu()))


def test_the_last_batch_norm_is_given_what_the_last_block_gave():
    network, seen = small_network("preact_resnet18"), []
    network.layer4.register_forward_hook(lambda _, __, output: seen.append(output))
    network.bn.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        network(random_inputs(network, 2))
    assert torch.equal(*seen)
    assert (seen[0] < 0).any()


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


@pytest.mark.parametrize(("dropout", "left"), [(0.0, True), (1.0, False)])
def test_the_outputs_of_both_hidden_linear_layers_of_the_speech_network_are_dropped(dropout, left):
    network, read = build(speech(dropout=dropout)).train(), {}
    for hidden, reader in (("fc6", "fc7"), ("fc7", "fc8")):
        torch.nn.init.ones_(network.get_submodule(hidden).bias)
        network.get_submodule(reader).register_forward_pre_hook(
            lambda _, given, name=reader: read.update({name: given[0].any().item()})
        )
    network(random_inputs(network, 2))
    assert read == {"fc7": left, "fc8": left}


def test_the_lowest_spectrogram_that_three_poolings_leave_something_of_is_heard():
    network = build(speech(spectrogram=SPECTROGRAM | {"bins": 10})).eval()
    with torch.no_grad():
        assert network(random_inputs(network, 1)).shape == (1, 3)


@pytest.mark.parametrize("architecture", ["digits_cnn", "deep_id", "speech_net"])
def test_pooling_keeps_the_largest(architecture):
    spike = torch.zeros(1, 1, 6, 6)
    spike[0, 0, 2, 3] = 1.0
    assert small_network(architecture).pooling()(spike).max() == 1.0


def test_however_narrow_a_speech_network_is_each_group_has_a_channel():
    network = build(speech(width=1e-6)).eval()
    with torch.no_grad():
        assert network(random_inputs(network, 1)).shape == (1, 3)
    assert network.conv5.weight.shape == (2, 1, 3, 3)


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
        (speech(spectrogram=SPECTROGRAM | {"bins": 9}), "the spectrogram is too small"),  # 7, 3, 1 cells
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
