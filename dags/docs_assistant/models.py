"""Models that answer questions: servers with the API of OpenAI, and sentences of the passages where there is none.

Imports nothing of Airflow, because the model server answers questions as well.
"""

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import openai
from openai.types.chat import ChatCompletion

from docs_assistant.budget import Budget
from docs_assistant.outputs import Answer, Asked, Source
from ml_common.errors import PermanentError, ServiceUnavailableError

REFUSAL = "I don't know."
TIMEOUT_SECONDS = 60.0
CITATION = re.compile(r"\[(\d+(?:\s*,\s*\d+)*)\]")
# Below this cosine similarity to the question, a sentence of the passages is not an answer.
MINIMUM_SIMILARITY = 0.4
QUOTES = 3
# A row of a table and an item of a list are sentences; other lines continue the one before.
NEW_LINE = re.compile(r"\n\s*\n|\n(?=\s*(?:\||[*#>-]+\s|```|\d+\.\s))|(?<=\|)\n")
RULE = re.compile(r"[|:\s`-]*")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")

Embed = Callable[[Sequence[str]], Any]


class Model(Protocol):
    """Something that answers questions."""

    def answer(self, prompt: str, asked: Asked, budget: Budget) -> Answer:
        """Answer a question and spend the budget; without an answer, say why."""


@dataclass(frozen=True)
class Prices:
    """Prices in dollars for a million tokens."""

    input: float
    output: float

    def usd(self, input_tokens: int, output_tokens: int) -> float:
        """Return the price of a request and its answer."""
        return (input_tokens * self.input + output_tokens * self.output) / 1e6


FREE = Prices(0, 0)


@dataclass(frozen=True)
class Endpoint:
    """A model behind a server.

    Attributes:
        name: Names the server in messages.
        address: The address of the API.
        key: The key of the API.
        model: The name of the model.
        parameters: Fields that are sent with each request.
        prices: What the model costs.
    """

    name: str
    address: str
    key: str
    model: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    prices: Prices = FREE

    def identity(self) -> str:
        """Return what answers depend on besides the prompt: the address, the model and its parameters."""
        return f"{self.address} {self.model} {json.dumps(self.parameters, sort_keys=True)}"


class ChatModel:
    """A model behind the chat completions of OpenAI's API, which vLLM, Ollama, Bedrock and Cohere have as well."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    def answer(self, prompt: str, asked: Asked, budget: Budget) -> Answer:  # noqa: ARG002
        """Ask the model; a busy or failing server is asked again, with growing pauses.

        Raises:
            PermanentError: The server refuses the request.
        """
        began = time.monotonic()
        try:
            with self._errors(budget.tries):
                response = self._client(budget.tries).chat.completions.with_raw_response.create(**self._request(prompt))
                completion = response.parse()
        except ServiceUnavailableError as error:
            return Answer(text=None, reason=str(error), tries=budget.tries, tokens=0, usd=0.0, seconds=0.0)
        # Of a web page with status 200, the client returns the text.
        if not isinstance(completion, ChatCompletion) or not completion.choices:
            raise PermanentError(
                f"The server of {self.endpoint.name} does not answer as OpenAI's API does: check its address."
            )
        usage = completion.usage
        read, written = (usage.prompt_tokens, usage.completion_tokens) if usage else (0, 0)
        usd = self.endpoint.prices.usd(read, written)
        budget.spend(read + written, usd)
        return Answer(
            text=completion.choices[0].message.content or REFUSAL,
            reason="",
            tries=response.retries_taken + 1,
            tokens=read + written,
            usd=usd,
            seconds=time.monotonic() - began,
        )

    def stream(self, prompt: str, tries: int) -> Iterator[str]:
        """Yield the answer to a prompt in pieces, as the model writes it.

        Raises:
            PermanentError: The server refuses the request.
            ServiceUnavailableError: The server did not answer.
        """
        with (
            self._errors(tries),
            self._client(tries).chat.completions.create(**self._request(prompt), stream=True) as chunks,
        ):
            for chunk in chunks:
                if chunk.choices and chunk.choices[0].delta.content:
                    yield chunk.choices[0].delta.content

    def _client(self, tries: int) -> openai.OpenAI:
        return openai.OpenAI(
            base_url=self.endpoint.address, api_key=self.endpoint.key, max_retries=tries - 1, timeout=TIMEOUT_SECONDS
        )

    def _request(self, prompt: str) -> dict[str, Any]:
        return {
            "model": self.endpoint.model,
            "messages": [{"role": "user", "content": prompt}],
            "extra_body": self.endpoint.parameters,
        }

    @contextmanager
    def _errors(self, tries: int) -> Iterator[None]:
        name = self.endpoint.name
        try:
            yield
        except (openai.RateLimitError, openai.InternalServerError, openai.APIConnectionError) as error:
            raise ServiceUnavailableError(
                f"the server of {name} did not answer in {tries} tries ({_kind(error)})"
            ) from None
        except openai.OpenAIError as error:
            # The message of the original error could show the key.
            raise PermanentError(
                f"The server of {name} refuses requests ({_kind(error)}): check its address, key and model."
            ) from None


def _kind(error: Exception) -> str:
    status = getattr(error, "status_code", None)
    return f"status {status}" if status else type(error).__name__


class Extractive:
    """Answers with the sentences of the passages that are most similar to the question."""

    def __init__(self, embed: Embed) -> None:
        """Keep the function that embeds texts."""
        self._embed = embed

    def answer(self, prompt: str, asked: Asked, budget: Budget) -> Answer:  # noqa: ARG002
        """Quote the passages, or refuse if nothing is similar enough."""
        began = time.monotonic()
        text = self.quotes(asked["question"], asked["passages"]) or REFUSAL
        return Answer(text=text, reason="", tries=1, tokens=0, usd=0.0, seconds=time.monotonic() - began)

    def quotes(self, question: str, passages: Sequence[Source]) -> str | None:
        """Return the sentences of passages that are most similar to a question, with the numbers of their passages."""
        found = [
            # The heading says what a sentence is about.
            (f"{_plain(sentence)} [{number}]", f"{passage['heading'].rpartition(' > ')[2]}: {sentence}")
            for number, passage in enumerate(passages, 1)
            for sentence in sentences_of(passage["text"])
        ]
        if not found:
            return None
        asked, *vectors = self._embed([question, *(embedded for _, embedded in found)])
        similar = {place: float(asked @ vector) for place, vector in enumerate(vectors)}
        best = sorted(similar, key=lambda place: -similar[place])[:QUOTES]
        return " ".join(found[place][0] for place in sorted(best) if similar[place] >= MINIMUM_SIMILARITY) or None


def _plain(sentence: str) -> str:
    """Return a sentence of a document without what looks like a citation."""
    return CITATION.sub(r"(\1)", sentence)


def sentences_of(text: str) -> list[str]:
    """Return the sentences of a text, on one line each."""
    found = (sentence for part in NEW_LINE.split(text) for sentence in SENTENCE_END.split(part))
    return [" ".join(sentence.split()) for sentence in found if not RULE.fullmatch(sentence)]


def answer_all(model: Model, prompts: Sequence[str], asked: Sequence[Asked], budget: Budget) -> list[Answer]:
    """Answer all questions as far as the budget allows.

    Raises:
        ServiceUnavailableError: The model answered none, although it was asked.
    """
    answers = []
    for prompt, question in zip(prompts, asked, strict=True):
        reason = budget.exhausted
        answers.append(
            Answer(text=None, reason=reason, tries=0, tokens=0, usd=0.0, seconds=0.0)
            if reason
            else model.answer(prompt, question, budget)
        )
    if not any(answer["text"] for answer in answers):
        raise ServiceUnavailableError(f"No question was answered: {answers[0]['reason']}.")
    return answers
