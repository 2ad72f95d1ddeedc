"""
# docs_assistant

Compares prompts and models that answer questions about an index of `docs_index`, and serves the best.

**Input.** The live index `index` in the database of the Airflow connection `features`; the question sets under `prefix`
of the data bucket; the prompts in the folder `prompts` next to this file; and models with the API of OpenAI, such as
those of OpenAI, vLLM, Ollama, Amazon Bedrock and Cohere. A question that the documents do not answer is
`{question: "...", answerable: false}`: the right answer is a refusal.

**Models.** For each model, create an Airflow connection: the address of the API as host, such as
`https://api.openai.com/v1`, the key as password, and as extra the model and its prices:

```json
{"model": "gpt-5-mini", "usd_per_million_input_tokens": 0.25, "usd_per_million_output_tokens": 2}
```

The optional field `parameters` is sent with each request, such as `{"temperature": 0, "max_tokens": 300}`; which ones
are allowed depends on the model.

List the connections in the Param `connections`. Each is compared with every prompt. One candidate needs no model: it
quotes the sentences that are most similar to the question.

**Output.** A version of the prompt `docs_assistant_<index>` in MLflow with the alias `champion`, whose tag `connection`
names the model; the page `s3://$ARTIFACTS_BUCKET/docs_assistant/<index>/index.html` with all candidates and the answers
of the chosen one; an event of the asset `docs_assistant_champion`; and the model server `docs-answers`, which answers
questions about the index: a page for people, and `/ask` for programs.

| Task | What it does | When it fails |
| --- | --- | --- |
| retrieve | finds the passages for all questions | run `docs_index` |
| plan | lists the candidates, with the champion among them | see Retries |
| answer | lets each candidate answer all questions | the others continue |
| judge | judges the answers, chooses the best candidate | no candidate answered: see the logs of answer |
| gate | fails below `minimum_correct`; lets pass a candidate not worse than the champion | see the page |
| next_task | chooses the branch | see Retries |
| approval | asks a person, where the stack requires it | see Approval |
| register | stores the prompt, and a version of the model `docs_answers`, in MLflow | see Retries |
| promote | moves the alias `champion` to both versions | see Retries |
| deploy | serves the version, and asks it a question | the old version keeps serving: see the message |
| page | writes the page | see Retries |

**The judge** needs no model. An answer is correct if it cites a passage that contains the answer, if it has most of the
expected words, and if the cited passages say the same: each number and each piece of code in the answer is in them, and
each sentence is similar to one of theirs. An answer without a citation, or with words of the prompt, is wrong.

**Budget.** A busy or failing server is asked again, at most `max_tries` times for a question, with growing pauses.
`max_tokens` and `max_usd` are divided among the candidates; a candidate that has used up its part leaves the remaining
questions without an answer. Answers are stored, so that another try or run does not pay for the same ones again.

**The server** searches the live version of the index for each question, so it needs no new run after `docs_index`. It
sends a sentence of a model to the client only if the passages support it as the judge demands; otherwise it replaces
the answer by quotes. There is one server: it serves the index of the last run that had a champion. A champion that
stays is served again, with the present code.

**Approval.** Where the environment variable MODEL_APPROVAL is `required`, the run waits at `approval` for three days.
Answer under Required Actions in Airflow's UI. Without an answer the candidate counts as rejected.

**Retries.** Clearing any task is safe: the same prompt and model are registered once.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import Asset, Param, TriggerRule, dag, task

from docs_index.params import OF_INDEX
from ml_common import approval, pods
from ml_common.defaults import DEFAULT_ARGS

PODS = pods.of(__file__)
CHAMPION = Asset("docs_assistant_champion")
# The embedding model runs on one core.
EMBEDDING = pods.Size(cores=1, memory_gib=2)


@dag(
    dag_id="docs_assistant",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(days=4),
    default_args={**DEFAULT_ARGS, "executor_config": PODS.on_cpu()},
    params={
        **OF_INDEX,
        "connections": Param(
            [], type="array", items={"type": "string"}, description="Airflow connections of the models to compare."
        ),
        "minimum_correct": Param(
            0.5, type="number", minimum=0, maximum=1, description="Share of correct answers below which the run fails."
        ),
        "max_tries": Param(4, type="integer", minimum=1, maximum=10, description="Tries for a question."),
        "max_tokens": Param(500_000, type="integer", minimum=1, description="Tokens that a run may use."),
        "max_usd": Param(1, type="number", minimum=0, description="Dollars that a run may spend."),
    },
    tags=["documents", "language models"],
    doc_md=__doc__,
)
def docs_assistant() -> None:
    """Wire the steps. Each task imports its libraries when it runs, so that parsing stays fast."""

    @task(executor_config=PODS.on_cpu(EMBEDDING))
    def retrieve(params: Any = None) -> Any:
        from docs_assistant import steps

        return steps.retrieve(params["index"], params["language"], params["prefix"])

    @task
    def plan(params: Any = None) -> Any:
        from docs_assistant import steps

        return steps.plan(params["index"], params["connections"])

    @task(
        executor_config=PODS.on_cpu(EMBEDDING),
        map_index_template="{{ task.op_kwargs['candidate']['name'] }}",
        execution_timeout=timedelta(hours=2),
    )
    def answer(asked: Any, candidate: Any, candidates: Any, params: Any = None) -> Any:
        from docs_assistant import steps

        limits = (params["max_tries"], params["max_tokens"], params["max_usd"])
        return steps.answer(asked, candidate, len(candidates), *limits)

    @task(executor_config=PODS.on_cpu(EMBEDDING), trigger_rule=TriggerRule.ALL_DONE_MIN_ONE_SUCCESS)
    def judge(asked: Any, answered: Any) -> Any:
        from docs_assistant import steps

        return steps.judge_all(asked, answered)

    @task
    def gate(judged: Any, params: Any = None) -> Any:
        from docs_assistant import steps

        return steps.decide(params["index"], judged, params["minimum_correct"])

    @task.branch
    def next_task(decision: Any) -> Any:
        from docs_assistant import gate

        return gate.next_task(decision)

    asks = approval.approval("Should the new prompt become the champion?")

    # Of its upstream tasks, approval is skipped where it is not required.
    @task(trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS)
    def register(judged: Any, params: Any = None) -> Any:
        from docs_assistant import steps

        return steps.register(params["index"], params["language"], judged)

    @task(outlets=[CHAMPION])
    def promote(registered: Any, params: Any = None, outlet_events: Any = None) -> str:
        from docs_assistant import steps

        version = steps.promote(params["index"], registered)
        outlet_events[CHAMPION].extra = {"index": params["index"], "version": version}
        return version

    @task(executor_config=PODS.on_cpu(deploys=True))
    def deploy(judged: Any, registered: Any, params: Any = None) -> str:
        from docs_assistant import steps

        return steps.deploy(params["index"], judged, registered)

    # Also where the champion stays. The answer is pulled: a task that follows a rejection directly is skipped.
    @task(trigger_rule=TriggerRule.NONE_FAILED)
    def page(judged: Any, decision: Any, version: Any, params: Any = None, ti: Any = None) -> str:
        from docs_assistant import steps

        return steps.write_page(params["index"], judged, decision, version, ti.xcom_pull(task_ids=approval.TASK_ID))

    asked = retrieve()
    candidates = plan()
    judged = judge(asked, answer.partial(asked=asked, candidates=candidates).expand(candidate=candidates))
    decision = gate(judged)
    branch = next_task(decision)
    registered = register(judged)
    promoted = promote(registered)
    promoted >> deploy(judged, registered)
    branch >> asks >> registered
    written = page(judged, decision, promoted)
    branch >> [registered, written]


docs_assistant()
