import torch

from image_classifier.augmentation import Geometry

GEOMETRY = Geometry(degrees=10, scale=0.1, shift=0.06)


def squares(count: int) -> torch.Tensor:
    images = torch.zeros(count, 3, 32, 32)
    images[:, :, 8:24, 8:24] = 1
    return images


def test_each_image_of_a_batch_changes_on_its_own() -> None:
    torch.manual_seed(0)
    changed = GEOMETRY.apply(squares(4))
    assert changed.shape == (4, 3, 32, 32)
    assert not any(torch.equal(one, other) for one, other in zip(changed, changed.roll(1, 0), strict=True))


def test_the_same_seed_gives_the_same_images() -> None:
    torch.manual_seed(3)
    first = GEOMETRY.apply(squares(4))
    torch.manual_seed(3)
    assert torch.equal(first, GEOMETRY.apply(squares(4)))


def test_what_comes_in_from_outside_repeats_the_border() -> None:
    torch.manual_seed(0)
    assert torch.allclose(Geometry(degrees=12, scale=0.2, shift=0.1).apply(torch.ones(64, 3, 32, 32)), torch.ones(1))


def test_no_image_moves_further_than_its_share() -> None:
    torch.manual_seed(0)
    moved = Geometry(degrees=0, scale=0, shift=0.125).apply(squares(200))[:, 0]
    left = (moved.amax(1) > 0.5).int().argmax(1)
    assert {4, 12} <= set(left.tolist()) <= set(range(4, 13))
