"""What the steps pass each other."""

from typing import TypedDict

# How the notice of a reply begins if the model could not be asked.
NO_ANSWER = "The model did not answer"


class Source(TypedDict):
    """A chunk that was found for a question."""

    path: str
    heading: str
    text: str


class Passage(Source):
    """A chunk of which is known whether it contains the answer."""

    answers: bool


class Asked(TypedDict):
    """A question with its passages.

    Attributes:
        question: The question.
        answerable: Whether the documents contain the answer.
        expected: Words of the document that answer the question.
        passages: What was found, the best first.
    """

    question: str
    answerable: bool
    expected: str
    passages: list[Passage]


class Candidate(TypedDict):
    """A prompt and the model that it is sent to.

    Attributes:
        name: Identifies the candidate for people.
        prompt: The template.
        connection: The Airflow connection of the model; None if answers are sentences of the passages.
        version: The version of the prompt if the candidate is the champion.
    """

    name: str
    prompt: str
    connection: str | None
    version: str | None


class Answer(TypedDict):
    """What a candidate answered.

    Attributes:
        text: The answer; None if there is none.
        reason: Why there is none.
        tries: How often the model was asked.
        tokens: The tokens of the request and of the answer.
        usd: The price of both.
        seconds: The time until the answer.
    """

    text: str | None
    reason: str
    tries: int
    tokens: int
    usd: float
    seconds: float


class Judged(TypedDict):
    """The verdict on an answer.

    Attributes:
        refused: The answer is that the documents do not contain it.
        grounded: Everything that it says is in the passages that it cites.
        correct: It is grounded, cites a passage with the answer and says it, or refuses rightly.
        reason: Why it is not correct.
    """

    refused: bool
    grounded: bool
    correct: bool
    reason: str


class Score(TypedDict):
    """A candidate on all questions: shares of correct and grounded answers and of right refusals, and sums."""

    candidate: Candidate
    correct: float
    grounded: float
    refused: float
    words: float
    tokens: int
    usd: float
    seconds: float


class Registered(TypedDict):
    """The version of the prompt, and that of the model that answers questions with it."""

    prompt: str
    model: str


class Decision(TypedDict):
    """Whether a candidate becomes the champion or is it already, why, and what a person needs to approve it."""

    promote: bool
    is_champion: bool
    reason: str
    summary: str
