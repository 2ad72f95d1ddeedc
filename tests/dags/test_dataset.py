import hashlib

import pytest

from image_classifier.dataset import (
    LabelledImage,
    fingerprint,
    label_of,
    require_class_folders,
    require_enough_images,
    split,
)
from ml_common.errors import PermanentError


def images(label: str, count: int, start: int = 0) -> list[LabelledImage]:
    return [
        LabelledImage(f"p/{label}/{n}.png", hashlib.sha256(f"{label}{n}".encode()).hexdigest(), label)
        for n in range(start, start + count)
    ]


def content(high_byte: str, label: str = "a") -> LabelledImage:
    return LabelledImage(f"p/{label}/{high_byte}.png", high_byte * 32, label)


def test_the_class_is_the_first_folder_under_the_prefix() -> None:
    assert label_of("p/q/cat/deep/1.png", "p/q/") == "cat"
    assert label_of("p/q/grüne Äpfel/bild 1.png", "p/q/") == "grüne Äpfel"
    assert label_of("p/q/1.png", "p/q/") is None


def test_an_empty_prefix_is_named_with_its_bucket() -> None:
    with pytest.raises(PermanentError, match="no images under s3://data/p/"):
        require_class_folders([], "p/", "s3://data/p/")


def test_files_outside_the_class_folders_are_named() -> None:
    with pytest.raises(PermanentError, match=r"1 objects under .* not in a class folder \(such as p/stray.png\)"):
        require_class_folders(["p/stray.png", "p/a/1.png"], "p/", "s3://data/p/")


def test_a_single_class_is_refused() -> None:
    with pytest.raises(PermanentError, match="only one class, a:"):
        require_enough_images(images("a", 9), {"a"})


def test_a_class_with_too_few_images_is_named_with_its_count_and_the_minimum() -> None:
    with pytest.raises(PermanentError, match=r"in b \(4\), c \(0\): each class needs at least 5"):
        require_enough_images(images("a", 5) + images("b", 4), {"a", "b", "c"})


def test_copies_of_one_image_do_not_count_as_several() -> None:
    copies = [LabelledImage(f"p/b/{n}.png", "00" * 32, "b") for n in range(9)]
    with pytest.raises(PermanentError, match=r"b \(1\)"):
        require_enough_images(images("a", 5) + copies, {"a", "b"})


def test_about_a_fifth_is_held_out_and_nothing_is_lost() -> None:
    everything = images("a", 1000)
    training, held_out = split(everything)
    assert 150 < len(held_out) < 250
    assert {*training, *held_out} == {*everything}


def test_an_image_stays_in_its_split_when_others_are_added() -> None:
    few, many = images("a", 100), images("a", 300)
    held_out_before, held_out_after = split(few)[1], split(many)[1]
    assert set(held_out_before) == set(held_out_after) & set(few)


def test_copies_of_an_image_are_in_the_same_split() -> None:
    copies = [LabelledImage(f"p/a/copy{n}.png", "10" * 32, "a") for n in range(3)]
    assert [one for one in split(images("a", 20) + copies)[1] if "copy" in one.key] == copies


def test_a_class_without_a_low_hash_holds_out_its_lowest() -> None:
    training, held_out = split([content("90"), content("80"), content("f0")])
    assert held_out == [content("80")]
    assert training == [content("90"), content("f0")]


def test_a_class_of_low_hashes_keeps_its_highest_for_training() -> None:
    training, held_out = split([content("01"), content("03"), content("02")])
    assert training == [content("03")]
    assert held_out == [content("01"), content("02")]


def test_the_fingerprint_changes_with_key_content_and_class_but_not_with_the_order() -> None:
    base = images("a", 3)
    assert fingerprint(reversed(base)) == fingerprint(base)
    first = base[0]
    for changed in (
        LabelledImage("other", first.sha256, first.label),
        LabelledImage(first.key, "0" * 64, first.label),
        LabelledImage(first.key, first.sha256, "b"),
    ):
        assert fingerprint([changed, *base[1:]]) != fingerprint(base)
