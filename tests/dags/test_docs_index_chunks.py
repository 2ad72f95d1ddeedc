"""The formats of documents, and how they are split into chunks."""

import pytest

from docs_index import chunks, formats
from docs_index.chunks import MAX_TOKENS
from docs_index.formats import Section, UnreadableFileError


def words(text: str) -> int:
    return len(text.split())


def test_markdown_is_split_by_headings_and_not_by_comments_in_code() -> None:
    text = "intro\n# A\n\none\n\n```\n# no heading\n```\n\n## B `c`\ntwo\n\nD\n===\nthree\n"
    assert formats.read("a.md", text.encode()) == [
        Section((), "intro"),
        Section(("A",), "one\n\n```\n# no heading\n```"),
        Section(("A", "B `c`"), "two"),
        Section(("D",), "three"),
    ]


def test_html_is_split_by_headings_without_scripts_comments_and_navigation() -> None:
    page = b"""<!doctype html><html><head><title>t</title></head><body><nav>menu</nav><!-- hidden -->
    <h1>Ovens <b>&amp; heat</b></h1><p>It is
    <i>hot</i>.</p><p>Use gloves.</p><script>alert()</script><h2>Care</h2><ul><li>clean</li><li>dry</li></ul>
    <pre>a\nb</pre></body></html>"""
    assert formats.read("a.html", page) == [
        Section(("Ovens & heat",), "It is hot.\n\nUse gloves."),
        Section(("Ovens & heat", "Care"), "clean\ndry\na\nb"),
    ]


@pytest.mark.parametrize(
    ("path", "content", "reason"),
    [
        ("a.pdf", b"%PDF-1.7", "not a readable PDF"),
        ("a.pdf", b"", "not a readable PDF"),
        ("a.txt", b"\xff\xfe", "not UTF-8"),
        ("a.txt", b"a\0b", "zero bytes"),
        ("a.md", b"# only\n## headings", "no text"),
        ("a.html", b"<script>1</script>", "no text"),
        ("a.TXT", b"a" * (formats.MAX_BYTES + 1), "more than 20 MiB"),
    ],
)
def test_a_file_without_a_readable_text_is_refused_with_a_reason(path: str, content: bytes, reason: str) -> None:
    with pytest.raises(UnreadableFileError, match=reason):
        formats.read(path, content)


def test_long_sections_are_split_between_paragraphs_lines_or_words_and_lose_nothing() -> None:
    text = "\n\n".join(["a " * 150, "b " * 90, ("c " * 60 + "\n") * 5, "d " * 450]).strip()
    parts = list(chunks.split(text, words))
    assert all(words(part) <= MAX_TOKENS for part in parts)
    assert " ".join(parts).split() == text.split()


def test_a_word_that_is_longer_than_a_chunk_is_split() -> None:
    assert "".join(chunks.split("x" * 450, len)) == "x" * 450


def test_a_chunk_keeps_its_id_when_another_part_of_its_document_changes() -> None:
    def ids(*texts: str) -> list[str]:
        return [one.id for one in chunks.chunks("a.md", [Section((), text) for text in texts], "model", words)]

    first, second, third = ids("one", "two", "two")
    assert len({first, second, third}) == 3
    assert ids("zero", "one", "two", "two")[1:] == [first, second, third]


def test_an_embedding_belongs_to_the_text_its_headings_and_the_model() -> None:
    def digest(path: str, heading: str, model: str) -> str:
        return next(chunks.chunks(path, [Section((heading,), "text")], model, words)).hash

    assert digest("a.md", "A", "m") == digest("b.md", "A", "m")
    assert len({digest("a.md", "A", "m"), digest("a.md", "B", "m"), digest("a.md", "A", "n")}) == 3
