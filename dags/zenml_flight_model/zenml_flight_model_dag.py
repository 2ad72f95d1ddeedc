"""
# zenml_flight_model

Trains a model that predicts whether a flight will be late, as a ZenML pipeline whose steps are tasks of Airflow.

**Input.** The Parquet files of the days from `first` to `last` that flight_features published.

**Output.** The artifacts of the steps under `s3://$ARTIFACTS_BUCKET/zenml/`, a run in the MLflow experiment
`zenml_flight_model`, and a run in ZenML. Its ID of the orchestrator's run is the ID of the run in Airflow.

| Task | What it does | When it fails |
| --- | --- | --- |
| start_run | registers the pipeline and the run with the ZenML server | the log names what to do |
| load | reads the flights, and sets the last `evaluation_days` days aside | publish the missing days |
| train_... | fits a candidate of flight_model | see Retries |
| evaluate | measures the candidates, and records the best one in MLflow | see Retries |
| finish_run | ends the run in ZenML, also after a failure | see Retries |

**Retries.** A failed step runs again in the same run of ZenML, also if you clear its task. A step that succeeded does
not: clear the whole run, which starts another run in ZenML.
"""

from ml_common import zenml_pipelines

dag = zenml_pipelines.dag(__file__, doc_md=__doc__, tags=("zenml", "flights", "training"))
