import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from PIL import Image as Picture

from infra.errors import OperationError
from ops.laptop import images, uploads
from ops.laptop.uploads import Destination, Upload

PREFIX = "images/pets/"
PETS = Destination("data", PREFIX, images.QUARANTINE)


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


def pets(*names: str) -> Iterator[Upload]:
    return (Upload(name, name.encode) for name in names)


def keys(s3: Any) -> set[str]:
    return {entry["Key"] for entry in s3.list_objects_v2(Bucket="data").get("Contents", [])}


def test_the_digits_are_1797_png_files_in_ten_class_folders() -> None:
    digits = list(images.digits())
    assert len(digits) == len({digit.name for digit in digits}) == 1797
    assert {digit.name.split("/")[0] for digit in digits} == set("0123456789")
    picture = Picture.open(io.BytesIO(digits[0].read()))
    assert (picture.format, picture.size, picture.mode) == ("PNG", (8, 8), "L")
    assert max(picture.getextrema()) == 239  # 15 of 16 inked pixels


def test_images_are_stored_only_once(s3: Any) -> None:
    assert uploads.store(s3, PETS, pets("cat/a b.png", "dog/ü.png")) == 2
    assert uploads.store(s3, PETS, pets("cat/a b.png", "dog/ü.png")) == 0
    assert keys(s3) == {"images/pets/cat/a b.png", "images/pets/dog/ü.png"}


def test_a_changed_image_is_stored_again_and_a_removed_one_is_deleted(s3: Any) -> None:
    uploads.store(s3, PETS, pets("cat/1.png", "dog/1.png"))
    assert uploads.store(s3, PETS, iter([Upload("cat/1.png", lambda: b"another picture")])) == 1
    assert keys(s3) == {"images/pets/cat/1.png"}


def test_other_prefixes_are_not_changed(s3: Any) -> None:
    s3.put_object(Bucket="data", Key="images/cars/bus/1.png", Body=b"")
    uploads.store(s3, PETS, pets("cat/1.png"))
    assert "images/cars/bus/1.png" in keys(s3)


def test_a_quarantined_file_is_not_uploaded_again_unless_it_changed(s3: Any) -> None:
    s3.put_object(Bucket="data", Key=f"quarantine/{PREFIX}cat/bad.png", Body=b"cat/bad.png")
    assert uploads.store(s3, PETS, pets("cat/bad.png")) == 0
    assert keys(s3) == {f"quarantine/{PREFIX}cat/bad.png"}
    assert uploads.store(s3, PETS, iter([Upload("cat/bad.png", lambda: b"repaired")])) == 1
    assert keys(s3) == {f"{PREFIX}cat/bad.png"}


def test_only_a_removed_file_is_deleted_from_quarantine(s3: Any) -> None:
    for key in (f"quarantine/{PREFIX}cat/bad.png", "quarantine/images/cars/bus/1.png"):
        s3.put_object(Bucket="data", Key=key, Body=b"")
    uploads.store(s3, PETS, pets("cat/1.png"))
    assert keys(s3) == {"quarantine/images/cars/bus/1.png", f"{PREFIX}cat/1.png"}


def make_folder(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(file)
    return root


def test_a_folder_yields_the_files_in_its_class_folders_except_hidden_ones(tmp_path: Path) -> None:
    root = make_folder(
        tmp_path, "cat/1.png", "cat/old/2.png", "dog/ü 1.png", "dog/.DS_Store", ".git/config", "notes.txt"
    )
    assert [image.name for image in images.folder(root)] == ["cat/1.png", "cat/old/2.png", "dog/ü 1.png"]


def names(root: Path) -> list[str]:
    return [image.name for image in images.folder(root)]


@pytest.mark.parametrize(
    ("name", "reason", "shown"),
    [
        (b"cat/caf\xe9.png", "the name is not UTF-8", r"cat/caf\xe9.png"),
        (b"caf\xe9/1.png", "the name is not UTF-8", r"caf\xe9/1.png"),
        (b"cat/\x1b[31m.png", "the name contains control characters", r"cat/\x1b[31m.png"),
        (b"cat/two\nlines.png", "the name contains control characters", r"cat/two\nlines.png"),
        (rb"cat/a\b.png", "the name contains a backslash", r"cat/a\b.png"),
        (b"cat/old.versions/1.png", "a folder's name ends in .versions", "cat/old.versions/1.png"),
        (b"/".join([b"cat", *[b"x" * 250] * 4, b"1.png"]), "the path is too long", "cat/xxx"),
    ],
)
def test_a_name_that_is_not_a_valid_key_is_skipped_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: bytes, reason: str, shown: str
) -> None:
    root = make_folder(tmp_path, "cat/1.png", "dog/1.png")
    odd = os.path.join(os.fsencode(root), name)  # noqa: PTH118 - paths of bytes
    os.makedirs(os.path.dirname(odd), exist_ok=True)  # noqa: PTH103, PTH120
    with open(odd, "wb"):  # noqa: PTH123
        pass
    assert names(root) == ["cat/1.png", "dog/1.png"]
    warning = capsys.readouterr().err
    assert warning.startswith(f"warning: skipped because {reason}")
    assert shown in warning
    assert len(warning.splitlines()) == 1


def test_the_warning_shows_only_a_few_of_many_skipped_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_folder(tmp_path, "cat/1.png", "dog/1.png", *(f"cat/{number}\t.png" for number in range(9)))
    assert names(root) == ["cat/1.png", "dog/1.png"]
    assert capsys.readouterr().err.endswith(r"cat/0\t.png, cat/1\t.png, cat/2\t.png and 6 more" + "\n")


def test_an_unreadable_file_is_skipped_with_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_folder(tmp_path, "cat/1.png", "dog/1.png")
    (root / "cat" / "gone.png").symlink_to(root / "nowhere.png")
    os.mkfifo(root / "dog" / "pipe.png")
    assert names(root) == ["cat/1.png", "dog/1.png"]
    assert "cat/gone.png, dog/pipe.png" in capsys.readouterr().err


def test_the_error_names_a_file_that_disappeared_before_its_upload(tmp_path: Path) -> None:
    found = images.folder(make_folder(tmp_path, "cat/1.png", "dog/1.png"))
    (tmp_path / "cat" / "1.png").unlink()
    with pytest.raises(OperationError, match=r"cat/1.png cannot be read .* rerun this command"):
        found[0].read()


def test_the_folder_itself_may_have_any_name(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "caf\udce9 [ml]", "cat/1.png", "dog/1.png")
    assert names(root) == ["cat/1.png", "dog/1.png"]
    assert images.destination(root).prefix.isascii()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((), "has 0 subfolder"),
        (("1.png", "2.png"), "has 0 subfolder"),
        (("cat/1.png", "dog/.hidden"), "has 1 subfolder"),
    ],
)
def test_a_folder_without_two_classes_is_refused(tmp_path: Path, files: tuple[str, ...], message: str) -> None:
    with pytest.raises(OperationError, match=message):
        images.folder(make_folder(tmp_path, *files))


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OperationError, match="nowhere is not a readable folder"):
        images.folder(tmp_path / "nowhere")


def test_folders_of_the_same_name_have_different_prefixes(tmp_path: Path) -> None:
    one, two = (images.destination(tmp_path / parent / "my pets").prefix for parent in ("one", "two"))
    assert one.startswith("images/my-pets-")
    assert one.endswith("/")
    assert one != two
