"""The sources of the DAG docs_index: a Git repository behind a real server, and web pages."""

import base64
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import ThreadingMixIn
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest
from dulwich import porcelain
from dulwich.repo import Repo
from dulwich.server import BackendRepo, DictBackend
from dulwich.web import make_wsgi_chain

from docs_index import formats, sources, steps
from ml_common.errors import PermanentError, ServiceUnavailableError
from ml_common.object_store import Bucket

PREFIX = "docs_index/documents/"
QUESTIONS = b"- {question: Who feeds the cat, file: own.md, contains: Ada}"
AUTHORIZATION = f"Basic {base64.b64encode(b'reader:token').decode()}"


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with documents in `docs`, a link, a picture, and an older commit with the tag v1."""
    root = tmp_path / "repository"
    porcelain.init(str(root))
    commit(root, {"docs/home.md": "# Home\n\nAda feeds the cat.\n", "README.md": "# Read me\n"}, "one")
    porcelain.tag_create(str(root), b"v1", message=b"one", annotated=True)
    (root / "docs" / "link.md").symlink_to("/etc/passwd")
    commit(root, {"docs/home.md": "# Home\n\nBob feeds the cat.\n", "docs/a/dog.txt": "Dogs.", "docs/p.png": ""}, "two")
    return root


def commit(root: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    porcelain.add(str(root), [str(path) for path in root.rglob("*") if ".git" not in path.parts and not path.is_dir()])
    porcelain.commit(str(root), message=message.encode(), author=b"a <a@b>", committer=b"a <a@b>")


@pytest.fixture
def git_server(repository: Path) -> Iterator[Callable[[str], str]]:
    """Serve the repository under `/handbook.git`, and for one user only under `/private.git`."""
    with Repo(str(repository)) as served:
        served_by_path: dict[str, BackendRepo] = {"/handbook.git": served, "/private.git": served}
        git = make_wsgi_chain(DictBackend(served_by_path))

        def app(environ: dict[str, Any], start_response: Any) -> Any:
            private = environ["PATH_INFO"].startswith("/private.git")
            if private and environ.get("HTTP_AUTHORIZATION") != AUTHORIZATION:
                start_response("401 Unauthorized", [("WWW-Authenticate", "Basic")])
                return [b""]
            return git(environ, start_response)

        server = make_server("127.0.0.1", 0, app, Server, Quiet)
        Thread(target=server.serve_forever).start()
        yield lambda name: f"http://127.0.0.1:{server.server_port}/{name}"
        server.shutdown()
        server.server_close()


def test_the_documents_of_a_branch_are_read_without_links_and_pictures(git_server: Callable[[str], str]) -> None:
    found = dict(sources.git_documents(git_server("handbook.git"), None, "docs"))
    assert found == {"home.md": b"# Home\n\nBob feeds the cat.\n", "a/dog.txt": b"Dogs."}


def test_the_documents_of_a_tag_in_all_folders_are_read(git_server: Callable[[str], str]) -> None:
    found = dict(sources.git_documents(git_server("handbook.git"), "v1", ""))
    assert found == {"docs/home.md": b"# Home\n\nAda feeds the cat.\n", "README.md": b"# Read me\n"}


def test_a_private_repository_is_read_with_the_connection(
    git_server: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PermanentError, match="refuses access: create the Airflow connection `docs_index_git`"):
        list(sources.git_documents(git_server("private.git"), None, "docs"))
    monkeypatch.setenv("AIRFLOW_CONN_DOCS_INDEX_GIT", "git://reader:token@127.0.0.1")
    assert len(list(sources.git_documents(git_server("private.git"), None, "docs"))) == 2


def test_credentials_are_sent_to_their_own_host_only(
    git_server: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DOCS_INDEX_GIT", "git://reader:token@github.com")
    with pytest.raises(PermanentError, match=r"refuses access: .* with the host 127\.0\.0\.1"):
        list(sources.git_documents(git_server("private.git"), None, "docs"))


@pytest.mark.parametrize(
    ("name", "ref", "folder", "message"),
    [
        ("handbook.git", "absent", "", "has no branch or tag absent: correct git_ref"),
        ("handbook.git", None, "absent", "has no documents in the folder absent: correct git_folder"),
        ("absent.git", None, "", "is not a Git repository: correct git_url; if it is private, create"),
    ],
)
def test_a_wrong_git_source_is_one_sentence(
    git_server: Callable[[str], str], name: str, ref: str | None, folder: str, message: str
) -> None:
    with pytest.raises(PermanentError, match=message):
        list(sources.git_documents(git_server(name), ref, folder))


def test_a_git_server_that_does_not_answer_is_tried_again_later() -> None:
    with pytest.raises(ServiceUnavailableError, match="could not be fetched; check that the server is running"):
        list(sources.git_documents("http://127.0.0.1:9/handbook.git", None, ""))


PAGES = {
    "/faq": (200, "text/html; charset=iso-8859-1", "<p>Gemüse</p>".encode("latin-1")),
    "/faq?page=2": (200, "text/html", b'<meta charset="iso-8859-1"><p>K\xe4se</p>'),
    "/": (200, "text/markdown", b"# Start"),
    "/manual.pdf": (200, "application/pdf", b"%PDF-1.7"),
    "/old": (301, "text/html", b""),
    "/absent": (404, "text/html", b""),
    "/picture": (200, "image/png", b""),
    "/broken": (503, "text/html", b""),
    "/large": (200, "text/plain", b"a" * (formats.MAX_BYTES + 1)),
}


@pytest.fixture
def web() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, media_type, body = PAGES[self.path]
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(body)))
            if status == 301:
                self.send_header("Location", "/faq")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_pages_are_stored_by_host_and_path_with_the_suffix_of_their_type(web: str) -> None:
    found = dict(
        sources.page_documents([f"{web}{path}" for path in ("/faq", "/faq?page=2", "/", "/manual.pdf", "/old")])
    )
    host = web.removeprefix("http://")
    second = next(name for name in found if "-" in name)
    assert found.keys() == {f"{host}/faq.html", second, f"{host}/index.md", f"{host}/manual.pdf", f"{host}/old.html"}
    assert [formats.read(name, found[name])[0].text for name in (f"{host}/faq.html", second)] == ["Gemüse", "Käse"]


def test_all_pages_that_cannot_be_read_are_named(web: str) -> None:
    urls = [f"{web}{path}" for path in ("/faq", "/absent", "/picture", "/large", "/broken")]
    with pytest.raises(PermanentError, match=r"absent answered 404; .*picture is of type image/png.*; .*20 MiB.*503"):
        sources.page_documents([*urls, "http://"])


def test_a_page_whose_server_fails_is_tried_again_later(web: str) -> None:
    with pytest.raises(
        ServiceUnavailableError, match=r"broken answered 503; .*:9/ could not be fetched \(ConnectError"
    ):
        sources.page_documents([f"{web}/broken", "http://127.0.0.1:9/"])


def test_the_folder_of_sources_is_a_copy_and_other_documents_stay(
    data: Bucket, web: str, git_server: Callable[[str], str]
) -> None:
    data.put(f"{PREFIX}own.md", b"# Own")
    data.put(f"{PREFIX}questions.yaml", QUESTIONS)
    data.put(f"{steps.QUARANTINE}{PREFIX}sources/git/home.md", b"unreadable earlier")
    git = git_server("handbook.git")
    [keys] = steps.fetch(PREFIX, git, None, "docs", [f"{web}/faq"])
    host = web.removeprefix("http://")
    copies = {f"sources/git/{name}" for name in ("home.md", "a/dog.txt")}
    assert {key.removeprefix(PREFIX) for key in keys} == {"own.md", *copies, f"sources/pages/{host}/faq.html"}
    assert not list(data.list(steps.QUARANTINE))
    [keys] = steps.fetch(PREFIX, git, None, "docs/a", [])
    assert {key.removeprefix(PREFIX) for key in keys} == {"own.md", "sources/git/dog.txt"}


def test_a_source_that_fails_leaves_all_documents_as_they_are(
    data: Bucket, web: str, git_server: Callable[[str], str]
) -> None:
    data.put(f"{PREFIX}questions.yaml", QUESTIONS)
    git = git_server("handbook.git")
    steps.fetch(PREFIX, git, None, "docs", [f"{web}/faq"])
    before = {found.key for found in data.list(PREFIX)}
    with pytest.raises(PermanentError):
        steps.fetch(PREFIX, git, "absent", "docs", [])
    with pytest.raises(ServiceUnavailableError):
        steps.fetch(PREFIX, git, None, "docs/a", [f"{web}/broken"])
    assert {found.key for found in data.list(PREFIX)} == before


def test_equal_documents_are_not_written_again(data: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    sources.mirror(data, PREFIX, [("a.md", b"a"), ("b.md", b"b")])
    written: list[str] = []
    put = Bucket.put

    def record(self: Bucket, key: str, content: bytes, content_type: str = "") -> None:
        written.append(key)
        put(self, key, content, content_type)

    monkeypatch.setattr(Bucket, "put", record)
    sources.mirror(data, PREFIX, [("a.md", b"a"), ("b.md", b"changed")])
    assert written == [f"{PREFIX}b.md"]
