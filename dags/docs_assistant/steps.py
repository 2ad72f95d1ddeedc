"""The steps as plain functions. Questions, answers and verdicts are passed as keys of the artifacts bucket."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docs_assistant import connections, endpoint_check, gate, judge, models, prompt_registry, prompts, versions
from docs_assistant.budget import Budget
from docs_assistant.models import Endpoint
from docs_assistant.outputs import Answer, Asked, Candidate, Decision, Passage, Registered, Score
from docs_assistant.sentence_vectors import SentenceVectors
from docs_index import questions
from docs_index.search import HITS, HYBRID, search
from docs_index.store import PgvectorStore
from ml_common import deployment, pages, registry
from ml_common.content_keys import content_key
from ml_common.errors import PermanentError
from ml_common.object_store import Bucket, artifacts_bucket

log = logging.getLogger(__name__)

FOLDER = "docs_assistant/"
# As `serves` in dag.yaml.
SERVED_AS = "docs-answers"
TEMPLATE = Path(__file__).with_name("assistant.html.j2")


def retrieve(index: str, language: str, prefix: str) -> str:
    """Find the passages for all questions; return the key of both.

    Raises:
        PermanentError: There is no index of this name, or no question set.
    """
    from ml_common import embedding

    store = PgvectorStore(index, language)
    live = store.live()
    if live is None:
        raise PermanentError(f"There is no index {index}: run the DAG docs_index, or correct the Param `index`.")
    found = questions.read(prefix)
    vectors = embedding.embed([one.question for one in found])
    asked = [
        Asked(
            question=one.question,
            answerable=one.answerable,
            expected=one.contains,
            passages=[
                Passage(path=hit.path, heading=hit.heading, text=hit.text, answers=one.answered_by(hit.path, hit.text))
                for hit in search(store, live, one.question, vector)[HYBRID][:HITS]
            ],
        )
        for one, vector in zip(found, vectors, strict=True)
    ]
    key = f"{FOLDER}{index}/{content_key({'asked': asked})}/questions.json"
    artifacts_bucket().put_json(key, asked)
    log.info("Found passages for %d questions in version %s of the index %s.", len(asked), live, index)
    return key


def plan(index: str, connections: Sequence[str]) -> list[Candidate]:
    """Return the candidates: each prompt with each model, answers that quote, and the champion of the index."""
    candidates = [
        Candidate(name=f"{prompt} with {connection}", prompt=template, connection=connection, version=None)
        for connection in connections
        for prompt, template in prompts.all_prompts().items()
    ]
    candidates.append(Candidate(name="quotes", prompt=prompts.QUOTES, connection=None, version=None))
    champion = prompt_registry.champion(index)
    if champion is None:
        return candidates
    others = [one for one in candidates if prompt_registry.key_of(one) != prompt_registry.key_of(champion)]
    return [*others, champion]


def answer(asked_key: str, candidate: Candidate, candidates: int, tries: int, tokens: int, usd: float) -> str:
    """Let a candidate answer all questions with its part of the budget; return the key of the answers."""
    from ml_common import embedding

    bucket = artifacts_bucket()
    asked: list[Asked] = bucket.get_json(asked_key)
    budget = Budget(tries=tries, tokens=tokens // candidates, usd=usd / candidates)
    endpoint = _endpoint(candidate)
    model = Remembered(models.ChatModel(endpoint), bucket) if endpoint else models.Extractive(embedding.embed)
    filled = [prompts.fill(candidate["prompt"], one["question"], one["passages"]) for one in asked]
    answers = models.answer_all(model, filled, asked, budget)
    log.info(
        "%s answered %d of %d questions; this run spent %d tokens and %.4f $.",
        *(candidate["name"], sum(one["text"] is not None for one in answers), len(asked)),
        *(budget.spent_tokens, budget.spent_usd),
    )
    key = f"{asked_key.rpartition('/')[0]}/{prompt_registry.key_of(candidate)}.json"
    bucket.put_json(key, {"candidate": candidate, "answers": answers})
    return key


@dataclass(frozen=True)
class Remembered:
    """A model whose answers are stored, so that another try or run does not pay for them again."""

    model: models.ChatModel
    bucket: Bucket

    def answer(self, prompt: str, asked: Asked, budget: Budget) -> Answer:
        """Return the stored answer to a prompt, or ask the model."""
        key = f"{FOLDER}answers/{content_key({'model': self.model.endpoint.identity(), 'prompt': prompt})}.json"
        if self.bucket.exists(key):
            stored: Answer = self.bucket.get_json(key)
            return stored
        answered = self.model.answer(prompt, asked, budget)
        if answered["text"] is not None:
            self.bucket.put_json(key, answered)
        return answered


def judge_all(asked_key: str, answered: Iterable[str]) -> str:
    """Judge the answers of all candidates, and choose the best; return the key of the verdicts."""
    from ml_common import embedding

    bucket = artifacts_bucket()
    asked: list[Asked] = bucket.get_json(asked_key)
    results = [bucket.get_json(key) for key in answered]
    # Candidates cite the same passages.
    embed = SentenceVectors(embedding.embed)
    scores: list[Score] = []
    for result in results:
        candidate = result["candidate"]
        result["judged"] = [
            judge.judge(question, given, candidate["prompt"], embed)
            for question, given in zip(asked, result["answers"], strict=True)
        ]
        scores.append(judge.score(candidate, asked, result["answers"], result["judged"]))
        log.info("%s: %.3f correct, %.3f grounded.", candidate["name"], scores[-1]["correct"], scores[-1]["grounded"])
    best = judge.best(scores)
    key = f"{asked_key.rpartition('/')[0]}/judged.json"
    chosen = {name: results[best][name] for name in ("answers", "judged")}
    bucket.put_json(key, {"asked": asked, "scores": scores, "best": best, **chosen})
    return key


def decide(index: str, judged_key: str, minimum_correct: float) -> Decision:
    """Decide whether the best candidate may become the champion.

    Raises:
        PermanentError: It answers too few questions, and the page says which.
    """
    judged = artifacts_bucket().get_json(judged_key)
    try:
        return gate.decide(judged["scores"], judged["best"], minimum_correct)
    except PermanentError as error:
        _write_page(index, judged, str(error), passed=False)
        raise


def register(index: str, language: str, judged_key: str) -> Registered:
    """Register the prompt of the best candidate, and the model that answers questions with it."""
    candidate = _best(artifacts_bucket().get_json(judged_key))
    prompt = prompt_registry.register(index, candidate)
    return Registered(prompt=prompt, model=versions.register(candidate, prompt, _endpoint(candidate), index, language))


def promote(index: str, registered: Registered) -> str:
    """Make the versions the champions; return that of the prompt."""
    prompt_registry.promote(index, registered["prompt"])
    registry.promote(versions.MODEL_NAME, registered["model"])
    log.info("Version %s of the prompt is the champion of the index %s.", registered["prompt"], index)
    return registered["prompt"]


def deploy(index: str, judged_key: str, registered: Registered) -> str:
    """Serve the champion, and ask it a question; return the URL.

    Raises:
        PermanentError: The server does not reach the model, or serves something else.
        ServiceUnavailableError: The server does not answer.
    """
    judged = artifacts_bucket().get_json(judged_key)
    endpoint, version = _endpoint(_best(judged)), registered["model"]
    secrets = {"MODEL_API_KEY": endpoint.key} if endpoint else {}
    url = deployment.deploy(SERVED_AS, version, versions.MODEL_NAME, secrets=secrets)
    question = next(one["question"] for one in judged["asked"] if one["answerable"])
    answer = endpoint_check.check_endpoint(url, version, index, question, endpoint.model if endpoint else None)
    log.info("%s answers %r: %s", url, question, answer)
    return url


def _best(judged: dict[str, Any]) -> Candidate:
    candidate: Candidate = judged["scores"][judged["best"]]["candidate"]
    return candidate


def _endpoint(candidate: Candidate) -> Endpoint | None:
    return connections.endpoint(candidate["connection"]) if candidate["connection"] else None


def write_page(index: str, judged_key: str, decision: Decision, version: str | None, answer: Any) -> str:
    """Write the page of the comparison; return its key."""
    reason = decision["reason"]
    if version and decision["promote"]:
        reason += f" Version {version} is the champion."
    elif answer:
        user = answer["responded_by_user"]
        reason += f" It was rejected by {user['name']}." if user else " It was not approved in time."
    return _write_page(index, artifacts_bucket().get_json(judged_key), reason, passed=version is not None)


def _write_page(index: str, judged: dict[str, Any], reason: str, *, passed: bool) -> str:
    key = f"{FOLDER}{index}/index.html"
    rows = list(zip(judged["asked"], judged["answers"], judged["judged"], strict=True))
    content = pages.render(
        TEMPLATE,
        index=index,
        reason=reason,
        passed=passed,
        scores=judged["scores"],
        best=judged["best"],
        rows=rows,
    )
    artifacts_bucket().put(key, content, pages.CONTENT_TYPE)
    return key
