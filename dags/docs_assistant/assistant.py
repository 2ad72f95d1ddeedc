"""Answer a question with passages of an index: what the model server does for each request."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypedDict, cast

import mlflow
from mlflow.entities import Document, LiveSpan, SpanStatusCode, SpanType

from docs_assistant import guard, prompts
from docs_assistant.guard import UnsupportedError
from docs_assistant.models import REFUSAL, ChatModel, Embed, Extractive
from docs_assistant.outputs import NO_ANSWER, Source
from docs_assistant.retrieval import Found, LiveIndex
from ml_common.errors import PermanentError, ServiceUnavailableError

# A person waits for the answer, so a busy model is asked only once more.
TRIES = 2
QUOTES = "quotes"


class Sources(TypedDict):
    """The first event: the passages, which answers cite by their places, and the versions that an answer is from."""

    sources: list[Source]
    index: str
    index_version: str
    prompt_version: str
    answered_by: str


class Text(TypedDict):
    """A piece of the answer, which follows the pieces before it."""

    text: str


class Replaced(TypedDict):
    """What came before is withdrawn; the pieces that follow are sentences of the passages."""

    replaced: str


Event = Sources | Text | Replaced


class Reply(Sources):
    """All events in one object; `notice` says why the sentences of the passages replace the model's answer, if so."""

    answer: str
    notice: str


@dataclass(frozen=True)
class Assistant:
    """A prompt and a model, with an index.

    Attributes:
        index: The live version of the index.
        index_name: Its name.
        prompt: The template of the prompt.
        prompt_version: Its version in MLflow.
        chat: The model; None if answers are sentences of the passages.
        embed: Embeds texts.
        experiment_id: The experiment in MLflow that gets a trace of each question.
    """

    index: LiveIndex
    index_name: str
    prompt: str
    prompt_version: str
    chat: ChatModel | None
    embed: Embed
    experiment_id: str

    def ask(self, question: str) -> Iterator[Event]:
        """Yield the sources of the answer, then its pieces.

        Raises:
            ServiceUnavailableError: The index does not answer; nothing was yielded.
        """
        with self._span("ask", SpanType.CHAIN, {"question": question}) as trace:
            found = self._find(question, trace)
            sources = [Source(path=hit.path, heading=hit.heading, text=hit.text) for hit in found.hits]
            answered_by = self.chat.endpoint.model if self.chat else QUOTES
            first = Sources(
                sources=sources,
                index=self.index_name,
                index_version=found.version,
                prompt_version=self.prompt_version,
                answered_by=answered_by,
            )
            trace.set_attributes({name: first[name] for name in ("index", "index_version", "prompt_version")})
            yield first
            reply = empty(first)
            for event in self._answer(question, sources, trace):
                add(reply, event)
                yield event
            trace.set_outputs({"answer": reply["answer"], "notice": reply["notice"]})

    def _find(self, question: str, trace: LiveSpan) -> Found:
        with self._span("retrieve", SpanType.RETRIEVER, {"question": question}, trace) as span:
            [vector] = self.embed([question])
            found = self.index.find(question, vector)
            span.set_outputs(
                [Document(hit.text, {"path": hit.path, "heading": hit.heading}, hit.id) for hit in found.hits]
            )
            return found

    def _answer(self, question: str, sources: Sequence[Source], trace: LiveSpan) -> Iterator[Text | Replaced]:
        if self.chat and sources:
            try:
                for text in self._written(self.chat, question, sources, trace):
                    yield Text(text=text)
            except (PermanentError, ServiceUnavailableError) as error:
                yield Replaced(replaced=f"{NO_ANSWER}: {error}")
            except UnsupportedError as error:
                yield Replaced(replaced=f"The passages do not support the answer of the model: {error}.")
            else:
                return
        quotes = Extractive(self.embed).quotes(question, sources)
        yield Text(text=quotes or REFUSAL)

    def _written(self, chat: ChatModel, question: str, sources: Sequence[Source], trace: LiveSpan) -> Iterator[str]:
        prompt = prompts.fill(self.prompt, question, sources)
        passages = [source["text"] for source in sources]
        with self._span("generate", SpanType.CHAT_MODEL, {"prompt": prompt}, trace) as span:
            written: list[str] = []
            for sentence in guard.supported(chat.stream(prompt, TRIES), passages, self.prompt, self.embed):
                written.append(sentence)
                yield sentence
            span.set_outputs({"answer": "".join(written)})

    @contextmanager
    def _span(self, name: str, kind: str, inputs: Any, parent: LiveSpan | None = None) -> Iterator[LiveSpan]:
        # Not the current span of a context: the pieces of one answer are made in several threads.
        experiment = None if parent else self.experiment_id
        span = mlflow.start_span_no_context(name, kind, parent, inputs, experiment_id=experiment)
        try:
            yield span
        except BaseException as error:
            span.set_status(SpanStatusCode.ERROR)
            if isinstance(error, Exception):
                span.record_exception(error)
            raise
        finally:
            span.end()


def reply_of(events: Iterator[Event]) -> Reply:
    """Join all events."""
    reply = empty(cast(Sources, next(events)))
    for event in events:
        add(reply, event)
    return reply


def empty(first: Sources) -> Reply:
    """Return the reply after the first event."""
    return Reply(
        answer="",
        notice="",
        sources=first["sources"],
        index=first["index"],
        index_version=first["index_version"],
        prompt_version=first["prompt_version"],
        answered_by=first["answered_by"],
    )


def add(reply: Reply, event: Any) -> None:
    """Add another event to a reply."""
    if "replaced" in event:
        reply["answer"], reply["notice"], reply["answered_by"] = "", event["replaced"], QUOTES
    else:
        reply["answer"] += event["text"]
