"""Judge answers without another model: what they cite, and whether the cited passages say the same."""

import re
import statistics
from collections.abc import Sequence
from typing import Any

from docs_assistant.models import CITATION, Embed, sentences_of
from docs_assistant.outputs import Answer, Asked, Candidate, Judged, Score

REFUSAL = re.compile(r"\b(i (do not|don't) know|not (in|contained in) the (passages|documents))\b", re.IGNORECASE)
REFUSAL_WORDS = 15
# What must be in a passage literally: code, and numbers with what belongs to them, such as 5W-30.
LITERAL = re.compile(r"`([^`]+)`|(\w*\d[\w.,:/-]*\w|\d)")
# Below this cosine similarity to all sentences of the cited passages, a sentence says something else.
MINIMUM_SIMILARITY = 0.5
STEM_CHARACTERS = 5
# So many words of the prompt in a row are no coincidence.
LEAKED_WORDS = 8


def judge(asked: Asked, answer: Answer, prompt: str, embed: Embed) -> Judged:
    """Judge the answer to a question; `prompt` is the template, which an answer must not reveal."""
    text = answer["text"]
    if text is None:
        return Judged(refused=False, grounded=False, correct=False, reason=answer["reason"])
    if is_refusal(text):
        reason = "it refuses although there is an answer" if asked["answerable"] else ""
        return Judged(refused=True, grounded=True, correct=not reason, reason=reason)
    if reason := ungrounded(asked, text, prompt, embed):
        return Judged(refused=False, grounded=False, correct=False, reason=reason)
    reason = incorrect(asked, text)
    return Judged(refused=False, grounded=True, correct=not reason, reason=reason)


def is_refusal(text: str) -> bool:
    """Return whether a text says that the documents do not contain the answer, and nothing else."""
    plain = text.replace("\u2019", "'")
    return REFUSAL.search(plain) is not None and len(plain.split()) <= REFUSAL_WORDS and not citations(text)


def ungrounded(asked: Asked, text: str, prompt: str, embed: Embed) -> str:
    """Return why the passages are not the source of an answer, or an empty text."""
    if leaks(text, prompt):
        return "it reveals the prompt"
    cited = citations(text)
    if not cited:
        return "it cites no passage"
    if not all(1 <= number <= len(asked["passages"]) for number in cited):
        return "it cites a passage that does not exist"
    return unsupported(CITATION.sub("", text), [asked["passages"][number - 1]["text"] for number in cited], embed)


def incorrect(asked: Asked, text: str) -> str:
    """Return why a grounded answer is not correct, or an empty text."""
    if not asked["answerable"]:
        return "it answers although there is no answer"
    if not any(asked["passages"][number - 1]["answers"] for number in citations(text)):
        return "no passage that it cites has the answer"
    if not says(CITATION.sub("", text), asked["expected"]):
        return f"it does not say: {asked['expected']}"
    return ""


def says(text: str, expected: str) -> bool:
    """Return whether a text has at least half of the expected words, whatever their endings."""
    wanted, found = _stems(expected), _stems(text)
    return len(wanted & found) * 2 >= len(wanted)


def citations(text: str) -> set[int]:
    """Return the numbers of the cited passages."""
    return {int(number) for found in CITATION.findall(text) for number in found.split(",")}


def leaks(text: str, prompt: str) -> bool:
    """Return whether a text contains many words of a prompt in a row."""
    words, of_prompt = _words(text), " ".join(_words(prompt))
    runs = (words[begin : begin + LEAKED_WORDS] for begin in range(len(words) - LEAKED_WORDS + 1))
    return any(f" {' '.join(run)} " in f" {of_prompt} " for run in runs)


def unsupported(text: str, passages: Sequence[str], embed: Embed) -> str:
    """Return what an answer says and the passages do not, or an empty text."""
    source = " ".join(" ".join(passages).split()).lower()
    for match in LITERAL.finditer(text):
        literal = " ".join((match[1] or match[2]).split())
        if literal.lower() not in source:
            return f"{literal} is not in the passages that it cites"
    said = sentences_of(text)
    known = [sentence for passage in passages for sentence in sentences_of(passage)]
    vectors = embed([*said, *known])
    similarities = vectors[: len(said)] @ vectors[len(said) :].T
    for sentence, best in zip(said, similarities.max(axis=1), strict=True):
        if best < MINIMUM_SIMILARITY:
            return f"the passages that it cites do not say: {sentence}"
    return ""


def score(candidate: Candidate, asked: Sequence[Asked], answers: Sequence[Answer], judged: Sequence[Judged]) -> Score:
    """Summarize a candidate."""
    unanswerable = [one for one, question in zip(judged, asked, strict=True) if not question["answerable"]]
    given = [answer for answer in answers if answer["text"] is not None]
    return Score(
        candidate=candidate,
        correct=_share(one["correct"] for one in judged),
        grounded=_share(one["grounded"] for one in judged),
        refused=_share(one["refused"] for one in unanswerable),
        words=statistics.mean(len(str(answer["text"]).split()) for answer in given),
        tokens=sum(answer["tokens"] for answer in answers),
        usd=sum(answer["usd"] for answer in answers),
        seconds=statistics.median(answer["seconds"] for answer in given),
    )


def best(scores: Sequence[Score]) -> int:
    """Return the place of the candidate with the most correct answers; then grounded, cheap, champion, fast."""
    return max(
        range(len(scores)),
        key=lambda place: (
            scores[place]["correct"],
            scores[place]["grounded"],
            -scores[place]["usd"],
            scores[place]["candidate"]["version"] is not None,
            -scores[place]["seconds"],
        ),
    )


def _share(values: Any) -> float:
    found = list(values)
    return sum(found) / len(found) if found else 1.0


def _stems(text: str) -> set[str]:
    return {word[:STEM_CHARACTERS] for word in _words(text)}


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
