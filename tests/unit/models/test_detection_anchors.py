from fineprune.models.detection.anchors import AnchorSpec, anchor_grid


def test_an_anchor_has_its_size_as_area_and_its_ratio_as_height_over_width():
    (anchor,) = anchor_grid(AnchorSpec((16.0,), (4.0,)), 1, 1, 16).tolist()
    assert anchor == [-4, -16, 4, 16]


def test_anchors_go_row_by_row_then_size_by_size():
    grid = anchor_grid(AnchorSpec((2.0, 4.0), (1.0,)), height=2, width=3, stride=16)
    assert grid.shape == (12, 4)
    assert grid[0].tolist() == [-1, -1, 1, 1]
    assert grid[1].tolist() == [-2, -2, 2, 2]
    assert grid[2].tolist() == [15, -1, 17, 1]
    assert grid[6].tolist() == [-1, 15, 1, 17]


def test_every_size_comes_in_every_shape_before_the_next_size():
    grid = anchor_grid(AnchorSpec((2.0, 8.0), (1.0, 4.0)), 1, 1, 16)
    assert grid.tolist() == [[-1, -1, 1, 1], [-0.5, -2, 0.5, 2], [-4, -4, 4, 4], [-2, -8, 2, 8]]


def test_three_sizes_in_three_shapes_are_nine_anchors():
    assert len(AnchorSpec((128.0, 256.0, 512.0), (0.5, 1.0, 2.0))) == 9
    assert len(AnchorSpec((128.0, 256.0, 512.0), (0.5, 1.0))) == 6
