import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from PIL import Image as Picture

from infra.errors import OperationError
from infra.laptop import images
from infra.laptop.images import Image

PREFIX = "images/pets/"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    moto.start()
    host, port = moto.get_host_and_port()
    yield f"http://{host}:{port}"
    moto.stop()


@pytest.fixture
def s3(server: str) -> Any:
    client = boto3.client(
        "s3", endpoint_url=server, aws_access_key_id="x", aws_secret_access_key="x", region_name="us-east-1"
    )
    client.create_bucket(Bucket="data")
    for entry in client.list_objects_v2(Bucket="data").get("Contents", []):
        client.delete_object(Bucket="data", Key=entry["Key"])
    return client


def pets(*names: str) -> Iterator[Image]:
    return (Image(name, name.encode) for name in names)


def keys(s3: Any) -> set[str]:
    return {entry["Key"] for entry in s3.list_objects_v2(Bucket="data").get("Contents", [])}


def test_the_digits_are_1797_png_files_in_ten_class_folders() -> None:
    digits = list(images.digits())
    assert len(digits) == len({digit.name for digit in digits}) == 1797
    assert {digit.name.split("/")[0] for digit in digits} == set("0123456789")
    picture = Picture.open(io.BytesIO(digits[0].read()))
    assert (picture.format, picture.size, picture.mode) == ("PNG", (8, 8), "L")
    assert max(picture.getextrema()) == 239  # 15 of 16 strokes


def test_images_are_stored_once_and_not_again(s3: Any) -> None:
    assert images.store(s3, "data", PREFIX, pets("cat/a b.png", "dog/ü.png")) == 2
    assert images.store(s3, "data", PREFIX, pets("cat/a b.png", "dog/ü.png")) == 0
    assert keys(s3) == {"images/pets/cat/a b.png", "images/pets/dog/ü.png"}


def test_a_changed_image_is_stored_again_and_a_removed_one_goes(s3: Any) -> None:
    images.store(s3, "data", PREFIX, pets("cat/1.png", "dog/1.png"))
    assert images.store(s3, "data", PREFIX, iter([Image("cat/1.png", lambda: b"another picture")])) == 1
    assert keys(s3) == {"images/pets/cat/1.png"}


def test_other_prefixes_are_left_alone(s3: Any) -> None:
    s3.put_object(Bucket="data", Key="images/cars/bus/1.png", Body=b"")
    images.store(s3, "data", PREFIX, pets("cat/1.png"))
    assert "images/cars/bus/1.png" in keys(s3)


def test_a_quarantined_file_is_not_brought_back_unless_it_changed(s3: Any) -> None:
    s3.put_object(Bucket="data", Key=f"quarantine/{PREFIX}cat/bad.png", Body=b"cat/bad.png")
    assert images.store(s3, "data", PREFIX, pets("cat/bad.png")) == 0
    assert keys(s3) == {f"quarantine/{PREFIX}cat/bad.png"}
    assert images.store(s3, "data", PREFIX, iter([Image("cat/bad.png", lambda: b"repaired")])) == 1
    assert keys(s3) == {f"{PREFIX}cat/bad.png"}


def test_a_file_that_is_removed_is_removed_from_quarantine_and_no_other(s3: Any) -> None:
    for key in (f"quarantine/{PREFIX}cat/bad.png", "quarantine/images/cars/bus/1.png"):
        s3.put_object(Bucket="data", Key=key, Body=b"")
    images.store(s3, "data", PREFIX, pets("cat/1.png"))
    assert keys(s3) == {"quarantine/images/cars/bus/1.png", f"{PREFIX}cat/1.png"}


def make_folder(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(file)
    return root


def test_a_folder_gives_the_files_in_its_class_folders_and_no_hidden_ones(tmp_path: Path) -> None:
    root = make_folder(
        tmp_path, "cat/1.png", "cat/old/2.png", "dog/ü 1.png", "dog/.DS_Store", ".git/config", "notes.txt"
    )
    assert [image.name for image in images.folder(root)] == ["cat/1.png", "cat/old/2.png", "dog/ü 1.png"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((), "has 0 sub-folder"),
        (("1.png", "2.png"), "has 0 sub-folder"),
        (("cat/1.png", "dog/.hidden"), "has 1 sub-folder"),
    ],
)
def test_a_folder_without_two_classes_is_refused(tmp_path: Path, files: tuple[str, ...], message: str) -> None:
    with pytest.raises(OperationError, match=message):
        list(images.folder(make_folder(tmp_path, *files)))


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OperationError, match="nowhere is not a folder"):
        list(images.folder(tmp_path / "nowhere"))


def test_folders_of_one_name_in_two_places_have_prefixes_of_their_own(tmp_path: Path) -> None:
    one, two = images.prefix_of(tmp_path / "one" / "my pets"), images.prefix_of(tmp_path / "two" / "my pets")
    assert one.startswith("images/my-pets-")
    assert one.endswith("/")
    assert one != two
