import pytest
import torch

from fineprune.models.detection.boxes import iou
from fineprune.models.detection.nms import EXPORTED_ROUNDS, nms

# Along one line, each 10 long: neighbours overlap by 6 / 14, those two apart by 2 / 18.
CHAIN = torch.tensor([[4.0 * i, 0, 4.0 * i + 10, 1] for i in range(6)])


def naive(boxes, most):
    stays = []
    for i, box in enumerate(boxes):
        if all(iou(box[None], boxes[j][None]).item() <= most for j in stays):
            stays.append(i)
    return [i in stays for i in range(len(boxes))]


def crowded(groups, count, seed):
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(groups, count, 2, generator=generator) * 30
    return torch.cat([low, low + 5 + torch.rand(groups, count, 2, generator=generator) * 20], -1)


def test_a_box_that_is_removed_removes_none():
    assert nms(CHAIN[None], 0.4).tolist() == [[True, False, True, False, True, False]]


def chain(links):
    """Boxes of which each overlaps with the next too much, by a limit of 0.4."""
    return CHAIN[0] + 4.0 * torch.arange(links).view(-1, 1) * torch.tensor([1.0, 0, 1, 0])


def test_chains_of_any_length_are_followed_to_their_end():
    for links in (7, 8, 9, 40, 2 * EXPORTED_ROUNDS):
        assert nms(chain(links)[None], 0.4).tolist() == [[number % 2 == 0 for number in range(links)]]


def test_at_the_limit_both_stay():
    assert nms(CHAIN[None], 6 / 14).all()


def test_of_equal_boxes_the_first_stays():
    assert nms(CHAIN[[2, 2, 2]][None], 0.99).tolist() == [[True, False, False]]


@pytest.mark.parametrize("most", [0.0, 0.3, 0.7])
def test_it_is_the_greedy_rule_in_every_group(most):
    boxes = crowded(3, 60, seed=1)
    assert nms(boxes, most).tolist() == [naive(group, most) for group in boxes]


def test_boxes_without_area_stay_and_remove_nothing():
    boxes = torch.tensor([[[0.0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 5, 5]]])
    assert nms(boxes, 0.3).all()


def test_the_rounds_of_an_exported_program_are_enough_for_crowds(monkeypatch):
    boxes = crowded(4, 200, seed=2)
    expected = nms(boxes, 0.5)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    assert torch.equal(nms(boxes, 0.5), expected)
    monkeypatch.setattr("fineprune.models.detection.nms.EXPORTED_ROUNDS", 1)
    with pytest.raises(RuntimeError, match="more than 1 rounds"):
        nms(boxes, 0.5)


class Suppression(torch.nn.Module):
    def forward(self, boxes):
        return nms(boxes, 0.4)


def test_an_exported_program_fails_where_its_rounds_are_not_enough(tmp_path):
    torch.export.save(torch.export.export(Suppression(), (chain(80)[None],)), tmp_path / "nms.pt2")
    served = torch.export.load(tmp_path / "nms.pt2").module()
    apart = chain(80) * 10
    apart[:, 2:] = apart[:, :2] + 1
    assert served(apart[None]).all()
    with pytest.raises(RuntimeError, match=f"more than {EXPORTED_ROUNDS} rounds"):
        served(chain(80)[None])
