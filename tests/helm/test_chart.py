"""The chart's archive: one file, pinned by digest."""

from pathlib import Path

import httpx
import pytest

from infra.airflow import chart
from infra.airflow.chart import ChartError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(chart, "SHA256", chart._digest(b"the chart"))
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda _: str(tmp_path))
    return chart.cached_archive()


def answer(monkeypatch: pytest.MonkeyPatch, response: httpx.Response | Exception) -> list[str]:
    asked: list[str] = []

    def get(url: str, **_: object) -> httpx.Response:
        asked.append(url)
        if isinstance(response, Exception):
            raise response
        response.request = httpx.Request("GET", url)
        return response

    monkeypatch.setattr("httpx.get", get)
    return asked


def test_the_chart_is_downloaded_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answer(monkeypatch, httpx.Response(200, content=b"the chart"))
    assert chart.archive() == cache
    assert chart.archive().read_bytes() == b"the chart"
    assert asked == [chart.URL]
    assert [path.name for path in cache.parent.iterdir()] == [cache.name]


def test_a_download_with_another_digest_is_refused_and_not_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, httpx.Response(200, content=b"something else"))
    with pytest.raises(ChartError, match=r"is not the chart airflow 1\.22\.0: its sha256 is .*, not "):
        chart.archive()
    assert not cache.exists()


@pytest.mark.parametrize("failure", [httpx.ConnectError("no route to host"), httpx.Response(404)])
def test_an_unreachable_chart_is_one_sentence_with_a_workaround(
    cache: Path, monkeypatch: pytest.MonkeyPatch, failure: httpx.Response | Exception
) -> None:
    answer(monkeypatch, failure)
    with pytest.raises(ChartError, match=f"cannot be downloaded .*check the network, or download .* as {cache}"):
        chart.archive()


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "nope://127.0.0.1:1"])
def test_an_unusable_proxy_is_one_sentence(cache: Path, monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(ChartError, match=r"cannot be downloaded .* \(.*(socks|proxy).*\): check the network"):
        chart.archive()


def test_a_changed_file_in_the_cache_is_refused(cache: Path) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_bytes(b"changed")
    with pytest.raises(ChartError, match=f"^{cache} is not the chart airflow .*: delete it and retry$"):
        chart.archive()


def test_a_full_disk_leaves_no_partial_file(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, httpx.Response(200, content=b"the chart"))

    def full(self: Path, _: bytes) -> int:
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ChartError, match="No space left on device"):
        chart.archive()
    assert list(cache.parent.iterdir()) == []
