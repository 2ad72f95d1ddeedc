"""
# image_classifier

Trains a classifier on the images in the data bucket, compares it with the champion, and serves the better one.

**Input.** `s3://$DATA_BUCKET/<prefix><class>/<file>`: the first folder under the Param `prefix` is the class. At least
two classes with five different images each are required. Images in any mode (RGBA, 16-bit, CMYK, ...) are converted to
RGB.

**Output.** Model, metrics and plots under `s3://$ARTIFACTS_BUCKET/image_classifier/`, a version of the MLflow model
`image_classifier`, an endpoint that serves its alias `champion`, and a report, whose key `smoke_test` returns.

| Task | What it does | When it fails |
| --- | --- | --- |
| validate | finds images, moves unreadable files to `quarantine/` | fix the folders as the log says |
| preprocess | decodes and resizes; holds out 20 % by content hash | see Retries |
| base_checkpoint | trains a base checkpoint once, downloads pretrained weights once, or takes your own | see Weights |
| train | fine-tunes a ResNet, on a GPU if the cluster has one | out of memory: lower `image_size` or `batch_size` |
| evaluate | measures the model and the champion on the same held-out images | see Retries |
| gate | fails below `minimum_accuracy`; promotes a model not worse than the champion | add images or epochs |
| register | stores a version in MLflow and moves `champion` if the gate promoted it | see Retries |
| deploy | serves the champion; the old version serves until the new one is ready | see the error in the log |
| smoke_test | sends held-out images to the endpoint and writes the report | restart or rebuild serving |

**Weights.** By default, training starts from a base checkpoint that this DAG trains on drawn characters. With
`weights=IMAGENET1K_V1` it starts from torchvision's pretrained weights, which are downloaded once and kept in the
artifacts bucket. Where download.pytorch.org cannot be reached, the log says where to upload the file instead. With
`base_checkpoint` it starts from your own file.

**Quarantine.** The reason is in the object's metadata `reason`. Upload a repaired file to its original key, or delete
it from `quarantine/`; the next run no longer reports it.

**Retries.** With the same images, Params and code, every step finds and reuses its output, so clearing any task is
safe. A training that is interrupted continues after the last epoch that it saved, at most every five minutes. Failed
connections to the object store, MLflow or download.pytorch.org are retried with exponential backoff;
errors that a retry cannot fix fail at once.

**Workers.** With the Param `workers`, `train` runs in several pods, one mapped task each, with one process per GPU.
They compute one model together: each batch is divided among them. If a worker is lost, all of them fail, and
their retries continue from the last saved epoch; see docs/training-workers.md.

**Memory.** Images are stored as tensors in shards of 256 MiB, of which a task holds at most two, so memory does not
grow with the number of images or classes.

**Rollback.** Set the alias `champion` in MLflow to an older version and clear `deploy`.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, task

from image_classifier.param_schemas import SCHEMAS
from ml_common import pods
from ml_common.defaults import DEFAULT_ARGS

PODS = pods.of(__file__)
PARAMS = {name: Param(**schema) for name, schema in SCHEMAS.items()}


@dag(
    dag_id="image_classifier",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=2),
    default_args={**DEFAULT_ARGS, "executor_config": PODS.on_cpu()},
    params=PARAMS,
    tags=["images", "training", "serving"],
    doc_md=__doc__,
)
def image_classifier() -> None:
    """Wire the steps. Each task imports its libraries when it runs, so that parsing stays fast."""

    @task
    def validate(params: Any = None) -> Any:
        from image_classifier import parameters, validation

        return validation.validate(parameters.read(params).prefix)

    @task
    def preprocess(dataset: Any, params: Any = None) -> str:
        from image_classifier import parameters, steps

        return steps.preprocess(dataset["fingerprint"], parameters.read(params).image_size)

    @task
    def base_checkpoint(params: Any = None) -> Any:
        from image_classifier import parameters, steps

        chosen = parameters.read(params)
        return steps.workers(steps.base_checkpoint(chosen), chosen)

    @task(executor_config=PODS.on_gpu(), map_index_template="worker {{ task.op_kwargs['worker'] }}")
    def train(dataset: Any, tensors: Any, checkpoint: Any, worker: Any, params: Any = None) -> Any:
        from image_classifier import parameters, steps

        return steps.train(dataset["fingerprint"], tensors, checkpoint, parameters.read(params), worker)

    @task
    def evaluate(workers: Any) -> Any:
        from image_classifier import steps

        return steps.evaluate(workers[0])

    @task
    def gate(evaluated: Any, params: Any = None) -> Any:
        from image_classifier import gate, parameters

        return gate.decide(evaluated, parameters.read(params).minimum_accuracy)

    @task
    def register(workers: Any, evaluated: Any, verdict: Any) -> Any:
        from image_classifier import steps

        return steps.register(workers[0], evaluated, verdict)

    @task(executor_config=PODS.on_cpu(deploys=True))
    def deploy() -> Any:
        from image_classifier import steps

        return steps.deploy()

    @task
    def smoke_test(
        dataset: Any,
        tensors: Any,
        workers: Any,
        evaluated: Any,
        registered: Any,
        deployed: Any,
        params: Any = None,
        run_id: Any = None,
    ) -> str:
        from image_classifier import parameters, steps

        prefix = parameters.read(params).prefix
        return steps.smoke_test(run_id, prefix, dataset, tensors, workers[0], evaluated, registered, deployed)

    dataset = validate()
    tensors = preprocess(dataset)
    workers = train.partial(dataset=dataset, tensors=tensors).expand_kwargs(base_checkpoint())
    evaluated = evaluate(workers)
    registered = register(workers, evaluated, gate(evaluated))
    deployed = deploy()
    registered >> deployed
    smoke_test(dataset, tensors, workers, evaluated, registered, deployed)


image_classifier()
