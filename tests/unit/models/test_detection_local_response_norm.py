import pytest
import torch
import torch.nn.functional as F

from fineprune.models.detection.local_response_norm import ALPHA, local_response_norm


def test_a_lone_cell_is_damped_by_the_ninth_of_its_square():
    x = torch.zeros(1, 1, 5, 5)
    x[..., 2, 2] = 600.0  # 5e-5 · 600² / 9 = 2
    assert local_response_norm(x)[0, 0, 2, 2].item() == pytest.approx(600 * 3**-0.75)
    assert local_response_norm(x).count_nonzero() == 1


def test_channels_do_not_damp_each_other():
    x = torch.rand(2, 3, 6, 7) * 300
    others = x.clone()
    others[:, [0, 2]] = 0
    assert torch.equal(local_response_norm(x)[:, 1], local_response_norm(others)[:, 1])


def test_it_and_its_gradient_are_those_of_the_formula():
    torch.manual_seed(0)
    x = (torch.rand(2, 3, 6, 7) * 500).requires_grad_()
    expected = x * (1 + ALPHA * F.avg_pool2d(x.square(), 3, 1, 1)).pow(-0.75)
    torch.testing.assert_close(local_response_norm(x), expected)
    weights = torch.randn_like(x)
    (fast,) = torch.autograd.grad((local_response_norm(x) * weights).sum(), x)
    (slow,) = torch.autograd.grad((expected * weights).sum(), x)
    torch.testing.assert_close(fast, slow)


def test_bfloat16_stays_and_rounds_as_bfloat16_does():
    x = torch.rand(2, 3, 6, 7).bfloat16() * 300
    x.requires_grad_()
    found, expected = local_response_norm(x), local_response_norm(x.float())
    assert found.dtype == torch.bfloat16
    assert (found.float() / expected - 1).abs().max() < 4 * 2**-8
    (fast,), (slow,) = (torch.autograd.grad(y.sum(), x) for y in (found, expected))
    assert (fast - slow).abs().max() < 4 * 2**-8 * slow.abs().max()
