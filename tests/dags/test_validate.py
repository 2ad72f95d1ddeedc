import io
import json
from collections.abc import Callable

import boto3
import pytest
from moto.server import ThreadedMotoServer
from PIL import Image

from image_classifier import images, validation
from image_classifier.outputs import Dataset
from ml_common.errors import PermanentError, ServiceUnavailableError
from ml_common.object_store import Bucket

PREFIX = "images/"
Uploader = Callable[..., None]


def manifest_of(artifacts: Bucket, dataset: Dataset) -> dict[str, object]:
    manifest: dict[str, object] = json.loads(
        artifacts.get(f"image_classifier/datasets/{dataset['fingerprint']}/manifest.json")
    )
    return manifest


def classes_of(artifacts: Bucket, dataset: Dataset) -> dict[str, int]:
    classes: dict[str, int] = manifest_of(artifacts, dataset)["classes"]  # type: ignore[assignment]
    return classes


def picture(mode: str, kind: str = "PNG", side: int = 16) -> bytes:
    file = io.BytesIO()
    Image.new(mode, (side, side)).save(file, kind)
    return file.getvalue()


def test_classes_are_counted_and_a_manifest_is_written(
    upload_images: Uploader, data: Bucket, artifacts: Bucket
) -> None:
    upload_images()
    data.put("images/red/", b"")  # the S3 console makes such a marker for a new folder
    dataset = validation.validate(PREFIX)
    assert dataset["quarantined"] == {}
    manifest = manifest_of(artifacts, dataset)
    assert manifest["classes"] == {"blue": 8, "green": 8, "red": 8}
    assert len(manifest["images"]) == 24  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.png", b"", images.EMPTY),
        ("half.png", picture("RGB", "BMP")[:400], images.DAMAGED),
        ("notes.png", b"not an image", images.NOT_AN_IMAGE),
        ("bomb.png", picture("1", side=10_000), images.TOO_MANY_PIXELS),
        ("huge.png", b"\0" * (images.MAX_BYTES + 1), images.TOO_MANY_BYTES),
        ("bild mit leerzeichen ä 日本.png", b"", images.EMPTY),
    ],
    ids=["empty", "truncated", "text", "decompression bomb", "too many bytes", "unicode name"],
)
def test_an_unreadable_file_is_quarantined_with_its_reason_and_does_not_stop_the_run(
    name: str, content: bytes, reason: str, upload_images: Uploader, data: Bucket, artifacts: Bucket
) -> None:
    upload_images()
    data.put(f"images/red/{name}", content)
    dataset = validation.validate(PREFIX)
    assert dataset["quarantined"] == {reason: 1}
    assert classes_of(artifacts, dataset)["red"] == 8
    assert not data.exists(f"images/red/{name}")
    assert data.get(f"quarantine/images/red/{name}") == content
    assert data.metadata(f"quarantine/images/red/{name}") == {"reason": reason}


def test_a_retry_reports_what_the_first_try_quarantined(
    upload_images: Uploader, data: Bucket, artifacts: Bucket
) -> None:
    upload_images()
    data.put("images/red/empty.png", b"")
    assert validation.validate(PREFIX) == validation.validate(PREFIX)


def test_a_repaired_file_is_no_longer_reported(upload_images: Uploader, data: Bucket, artifacts: Bucket) -> None:
    upload_images()
    for name in ("repaired.png", "other.png"):
        data.put(f"images/red/{name}", b"")
    assert validation.validate(PREFIX)["quarantined"] == {images.EMPTY: 2}
    data.put("images/red/repaired.png", picture("RGB"))
    assert validation.validate(PREFIX)["quarantined"] == {images.EMPTY: 1}


def test_a_file_deleted_from_quarantine_is_no_longer_reported(
    upload_images: Uploader, data: Bucket, artifacts: Bucket
) -> None:
    upload_images()
    data.put("images/red/empty.png", b"")
    validation.validate(PREFIX)
    boto3.client("s3").delete_object(Bucket=data.name, Key="quarantine/images/red/empty.png")
    assert validation.validate(PREFIX)["quarantined"] == {}


def test_a_repaired_file_that_is_damaged_in_another_way_is_reported_with_the_new_reason(
    upload_images: Uploader, data: Bucket, artifacts: Bucket
) -> None:
    upload_images()
    data.put("images/red/bad.png", b"")
    validation.validate(PREFIX)
    data.put("images/red/bad.png", b"not an image")
    assert validation.validate(PREFIX)["quarantined"] == {images.NOT_AN_IMAGE: 1}


@pytest.mark.parametrize(("mode", "kind"), [("RGBA", "PNG"), ("I;16", "PNG"), ("CMYK", "JPEG"), ("P", "GIF")])
def test_images_of_other_modes_are_kept(
    mode: str, kind: str, upload_images: Uploader, data: Bucket, artifacts: Bucket
) -> None:
    upload_images()
    data.put("images/red/other", picture(mode, kind))
    dataset = validation.validate(PREFIX)
    assert classes_of(artifacts, dataset)["red"] == 9
    assert dataset["quarantined"] == {}


def test_names_with_spaces_and_unicode_are_kept(upload_images: Uploader, data: Bucket, artifacts: Bucket) -> None:
    upload_images()
    data.put("images/grüne Äpfel/日本 1+2&3.png", data.get("images/green/0.png"))
    for number in range(1, 5):
        data.put(f"images/grüne Äpfel/{number}.png", data.get(f"images/green/{number}.png"))
    dataset = validation.validate(PREFIX)
    assert classes_of(artifacts, dataset)["grüne Äpfel"] == 5
    assert "日本 1+2&3.png" in str(manifest_of(artifacts, dataset))


def test_an_empty_prefix_is_a_permanent_error(data: Bucket, artifacts: Bucket) -> None:
    with pytest.raises(PermanentError, match="There are no images under"):
        validation.validate(PREFIX)


def test_a_single_class_is_a_permanent_error(upload_images: Uploader, artifacts: Bucket) -> None:
    upload_images(colours=("red",))
    with pytest.raises(PermanentError, match="only one class, red"):
        validation.validate(PREFIX)


def test_a_class_left_without_images_by_quarantine_fails_with_its_name(
    upload_images: Uploader, data: Bucket, artifacts: Bucket
) -> None:
    upload_images()
    data.put("images/broken/1.png", b"")
    with pytest.raises(PermanentError, match=r"broken \(0\)"):
        validation.validate(PREFIX)


def test_the_object_store_going_down_leaves_no_dataset_behind(
    upload_images: Uploader, data: Bucket, artifacts: Bucket, s3: ThreadedMotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_images()
    monkeypatch.setattr(validation, "decode", lambda content: (images.decode(content), s3.stop()))
    with pytest.raises(ServiceUnavailableError, match="does not answer"):
        validation.validate(PREFIX)
    s3.start()
    assert list(artifacts.list("")) == []
    assert len(list(data.list(PREFIX))) == 24
