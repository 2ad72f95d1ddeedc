"""Let through only what the passages support: an answer is checked sentence by sentence while a model writes it."""

from collections.abc import Iterable, Iterator, Sequence

from docs_assistant import judge
from docs_assistant.models import CITATION, SENTENCE_END, Embed


class UnsupportedError(Exception):
    """The passages do not support the answer; the message says why."""


def supported(pieces: Iterable[str], passages: Sequence[str], prompt: str, embed: Embed) -> Iterator[str]:
    """Yield the sentences of an answer that arrives in pieces.

    Args:
        pieces: The answer.
        passages: The passages that it must be based on, in the order of their numbers.
        prompt: The template of the prompt, which the answer must not reveal.
        embed: Embeds sentences.

    Raises:
        UnsupportedError: A sentence, which is not yielded, reveals the prompt, cites a passage that does not exist, or
            says something else than the passages; or the whole answer cites nothing.
    """
    text = ""
    for sentence in sentences(pieces):
        text += sentence
        _check(sentence, text, passages, prompt, embed)
        yield sentence
    if not judge.citations(text) and not judge.is_refusal(text):
        raise UnsupportedError("it cites no passage")


def sentences(pieces: Iterable[str]) -> Iterator[str]:
    """Yield the sentences of a text that arrives in pieces, with the white space between them."""
    waiting = ""
    for piece in pieces:
        waiting += piece
        while end := SENTENCE_END.search(waiting):
            yield waiting[: end.end()]
            waiting = waiting[end.end() :]
    if waiting:
        yield waiting


def _check(sentence: str, text: str, passages: Sequence[str], prompt: str, embed: Embed) -> None:
    if judge.leaks(text, prompt):
        raise UnsupportedError("it reveals the prompt")
    if not all(1 <= number <= len(passages) for number in judge.citations(sentence)):
        raise UnsupportedError("it cites a passage that does not exist")
    plain = CITATION.sub("", sentence)
    if not plain.strip() or judge.is_refusal(text):
        return
    if reason := judge.unsupported(plain, passages, embed):
        raise UnsupportedError(reason)
