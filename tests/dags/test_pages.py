from base64 import b64decode
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from ml_common import charts, pages


@pytest.fixture
def template(tmp_path: Path) -> Path:
    file = tmp_path / "one.html.j2"
    file.write_text(
        '{% extends "page.html.j2" %}{% set title = "Sales & more" %}'
        '{% block content %}<p>{{ name }}</p><img src="{{ chart | picture }}" alt="">{% endblock %}'
    )
    return file


def test_a_page_has_its_title_the_shared_look_and_its_content_with_escaped_values(template: Path) -> None:
    page = pages.render(template, name="<b> é", chart=b"").decode()
    assert page.startswith("<!doctype html>")
    assert page.count("Sales &amp; more") == 2
    assert "--accent" in page
    assert "<p>&lt;b&gt; é</p>" in page


def test_a_page_needs_no_other_file(template: Path) -> None:
    page = pages.render(template, name="", chart=b"\x89PNG").decode()
    assert b64decode(page.partition("data:image/png;base64,")[2].partition('"')[0]) == b"\x89PNG"
    assert "http" not in page


def test_a_value_that_is_missing_is_an_error(template: Path) -> None:
    with pytest.raises(UndefinedError, match="name"):
        pages.render(template, chart=b"")


def test_equal_charts_have_equal_bytes() -> None:
    def drawn(height: float) -> bytes:
        figure = charts.figure(2, 1)
        figure.subplots().bar([0, 1], [1, height])
        return charts.png(figure)

    assert drawn(2) == drawn(2) != drawn(3)
    assert drawn(2).startswith(b"\x89PNG")
