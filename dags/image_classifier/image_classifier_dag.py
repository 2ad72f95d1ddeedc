"""
# image_classifier

Trains a classifier on the images in the data bucket, compares it with the model in use, and serves the better one.

**Input.** `s3://$DATA_BUCKET/<prefix><class>/<file>`: the first folder under the Param `prefix` is the class; at least
two classes with five different images each. Any mode (RGBA, 16-bit, CMYK, ...) is turned into RGB.

**Output.** Model, metrics and pictures under `s3://$ARTIFACTS_BUCKET/image_classifier/`, a version of the MLflow model
`image_classifier`, an endpoint that serves its alias `champion`, and a report, whose key `smoke_test` returns.

| Task | What it does | When it fails |
| --- | --- | --- |
| validate | finds images, moves unreadable ones to `quarantine/` | mend the folders as the log says |
| preprocess | decodes, resizes, holds out 20 % by the hash of the content | see "Again" |
| base_checkpoint | trains a base checkpoint once, or takes the Param's | see "Again" |
| train | fine-tunes a ResNet-18, on a GPU when there is one | out of memory: lower `batch_size` |
| evaluate | measures the model, and the champion on the same images | see "Again" |
| gate | stops below `minimum_accuracy`; promotes what is not worse than the champion | more images or epochs |
| register | stores a version in MLflow, moves `champion` if the gate said so | see "Again" |
| deploy | serves the champion; the old one serves until the new one does | the log names the error |
| smoke_test | asks the endpoint about held-out images, writes the report | restart or rebuild serving |

**Quarantine.** A file's reason is its object's metadata `reason`. Upload a repaired file to its old place, or delete
the file from `quarantine/`: from the next run on it is no longer reported.

**Again.** Same images, Params and code: every step finds its output and reuses it, so clearing any task is safe.
A failed connection to the object store or MLflow is retried with growing delay; what is wrong for good fails at once.

**Memory.** Images become tensors in shards of 256 MiB, of which a task holds two at most: what a task needs does not
grow with the number of images or of classes.

**Go back.** Set the alias `champion` in MLflow to an older version and clear `deploy`.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, task

from image_classifier.param_schemas import SCHEMAS
from ml_common import pods
from ml_common.defaults import DEFAULT_ARGS

PARAMS = {name: Param(**schema) for name, schema in SCHEMAS.items()}


@dag(
    dag_id="image_classifier",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=2),
    default_args={**DEFAULT_ARGS, "executor_config": pods.on_cpu()},
    params=PARAMS,
    tags=["images", "training", "serving"],
    doc_md=__doc__,
)
def image_classifier() -> None:
    """Wire the steps; each imports what it needs only when it runs, which keeps parsing fast."""

    @task
    def validate(params: Any = None) -> Any:
        from image_classifier import parameters, steps

        return steps.validate(parameters.read(params).prefix)

    @task
    def preprocess(dataset: Any, params: Any = None) -> str:
        from image_classifier import parameters, steps

        return steps.preprocess(dataset["fingerprint"], parameters.read(params).image_size)

    @task
    def base_checkpoint(params: Any = None) -> str:
        from image_classifier import parameters, steps

        return steps.base_checkpoint(parameters.read(params).base_checkpoint)

    @task(executor_config=pods.on_gpu())
    def train(dataset: Any, tensors: Any, checkpoint: Any, params: Any = None) -> Any:
        from image_classifier import parameters, steps

        return steps.train(dataset["fingerprint"], tensors, checkpoint, parameters.read(params))

    @task
    def evaluate(trained: Any) -> Any:
        from image_classifier import steps

        return steps.evaluate(trained)

    @task
    def gate(evaluated: Any, params: Any = None) -> Any:
        from image_classifier import parameters, steps

        return steps.judge(evaluated, parameters.read(params).minimum_accuracy)

    @task
    def register(trained: Any, evaluated: Any, verdict: Any) -> Any:
        from image_classifier import steps

        return steps.register(trained, evaluated, verdict)

    @task(executor_config=pods.on_cpu(service_account="airflow-deploy"))
    def deploy() -> Any:
        from image_classifier import steps

        return steps.deploy()

    @task
    def smoke_test(
        dataset: Any,
        tensors: Any,
        trained: Any,
        evaluated: Any,
        registered: Any,
        deployed: Any,
        params: Any = None,
        run_id: Any = None,
    ) -> str:
        from image_classifier import parameters, steps

        prefix = parameters.read(params).prefix
        return steps.smoke_test(run_id, prefix, dataset, tensors, trained, evaluated, registered, deployed)

    dataset = validate()
    tensors = preprocess(dataset)
    trained = train(dataset, tensors, base_checkpoint())
    evaluated = evaluate(trained)
    registered = register(trained, evaluated, gate(evaluated))
    deployed = deploy()
    registered >> deployed
    smoke_test(dataset, tensors, trained, evaluated, registered, deployed)


image_classifier()
