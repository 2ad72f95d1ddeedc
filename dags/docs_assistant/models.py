"""Models that answer questions: servers with the API of OpenAI, and sentences of the passages where there is none."""

import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import openai
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException
from openai.types.chat import ChatCompletion

from docs_assistant.budget import Budget
from docs_assistant.outputs import Answer, Asked
from ml_common.errors import PermanentError, ServiceUnavailableError

REFUSAL = "I don't know."
KINDS = ("input", "output")
TIMEOUT_SECONDS = 60.0
# Below this cosine similarity to the question, no sentence of the passages is an answer.
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


class ChatModel:
    """A model behind the chat completions of OpenAI's API, which vLLM, Ollama, Bedrock and Cohere have as well."""

    def __init__(self, connection: str) -> None:
        """Read the connection: the API's address as host, the key as password, and the rest as extra.

        Raises:
            PermanentError: The connection does not exist, or has no model.
        """
        try:
            found = Connection.get(connection)
        except AirflowNotFoundException as error:
            raise PermanentError(
                f"The Airflow connection `{connection}` does not exist: create it, or remove it from `connections`."
            ) from error
        self._connection = connection
        self._key = found.password or "none"
        try:
            extra = found.extra_dejson
            self._address = _text(found.host)
            self._model = _text(extra.get("model"))
            self._parameters = dict(extra.get("parameters", {}))
            self._prices = Prices(*(float(extra.get(f"usd_per_million_{kind}_tokens", 0)) for kind in KINDS))
        except (TypeError, ValueError) as error:
            raise PermanentError(
                f"The Airflow connection `{connection}` needs the address of the API as host, such as "
                'https://api.openai.com/v1, and the model as extra, such as {"model": "gpt-5-mini"}; parameters are an '
                f"object, and prices are numbers ({type(error).__name__}: {error})."
            ) from error

    def identity(self) -> str:
        """Return what answers depend on besides the prompt: the address, the model and its parameters."""
        return f"{self._address} {self._model} {json.dumps(self._parameters, sort_keys=True)}"

    def answer(self, prompt: str, asked: Asked, budget: Budget) -> Answer:  # noqa: ARG002
        """Ask the model; a busy or failing server is asked again, with growing pauses.

        Raises:
            PermanentError: The server refuses the request.
        """
        client = openai.OpenAI(
            base_url=self._address, api_key=self._key, max_retries=budget.tries - 1, timeout=TIMEOUT_SECONDS
        )
        began = time.monotonic()
        try:
            response = client.chat.completions.with_raw_response.create(
                model=self._model,
                messages=[{"role": "user", "content": prompt}],
                extra_body=self._parameters,
            )
            completion = response.parse()
        except (openai.RateLimitError, openai.InternalServerError, openai.APIConnectionError) as error:
            reason = f"the server of `{self._connection}` did not answer in {budget.tries} tries ({_kind(error)})"
            return Answer(text=None, reason=reason, tries=budget.tries, tokens=0, usd=0.0, seconds=0.0)
        except openai.OpenAIError as error:
            # The message of the original error could show the key.
            raise PermanentError(
                f"The server of the Airflow connection `{self._connection}` refuses requests ({_kind(error)}): check "
                "its address, key and model."
            ) from None
        # Of a web page with status 200, the client returns the text.
        if not isinstance(completion, ChatCompletion) or not completion.choices:
            raise PermanentError(
                f"The server of the Airflow connection `{self._connection}` does not answer as OpenAI's API does: "
                "check its address."
            )
        usage = completion.usage
        read, written = (usage.prompt_tokens, usage.completion_tokens) if usage else (0, 0)
        usd = self._prices.usd(read, written)
        budget.spend(read + written, usd)
        return Answer(
            text=completion.choices[0].message.content or REFUSAL,
            reason="",
            tries=response.retries_taken + 1,
            tokens=read + written,
            usd=usd,
            seconds=time.monotonic() - began,
        )


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("host or model is missing")
    return value


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
        text = self._quotes(asked) or REFUSAL
        return Answer(text=text, reason="", tries=1, tokens=0, usd=0.0, seconds=time.monotonic() - began)

    def _quotes(self, asked: Asked) -> str | None:
        found = [
            # The heading says what a sentence is about.
            (f"{sentence} [{number}]", f"{passage['heading'].rpartition(' > ')[2]}: {sentence}")
            for number, passage in enumerate(asked["passages"], 1)
            for sentence in sentences_of(passage["text"])
        ]
        if not found:
            return None
        question, *vectors = self._embed([asked["question"], *(embedded for _, embedded in found)])
        similarities = [float(question @ vector) for vector in vectors]
        best = sorted(range(len(found)), key=lambda place: -similarities[place])[:QUOTES]
        if similarities[best[0]] < MINIMUM_SIMILARITY:
            return None
        return " ".join(found[place][0] for place in sorted(best))


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
