"""
# external_training_sagemaker

Trains the model of late flights in a training job of Amazon SageMaker, and passes it through the gate of flight_model.
The DAG exists where the Airflow connection that its dag.yaml names exists; docs/external-training.md describes the
setup.

**Input.** The table `flight_features` in the database of the Airflow connection `features`, all days before `as_of`.

**Output.** The frozen training set, the model and its evaluation under `s3://$ARTIFACTS_BUCKET/flight_model/`, a model
card with the price of the job, a version of the MLflow model `flight_delays` with the alias `champion`, and an event of
the asset `flight_delays_champion`. flight_scores uses the version; the endpoint keeps serving that of flight_model.

| Task | What it does | When it fails |
| --- | --- | --- |
| freeze | stores the flights before `as_of` as one file, with a hash of its rows | publish the missing days |
| prepare | names the job by what it depends on, and uploads its program | see Retries |
| request | writes the request to SageMaker | add the missing field to the connection |
| submit | starts the job, and waits in the triggerer | see the job in SageMaker's console |
| fetch | checks the model, and stores it as flight_model stores its own | see the error in the log |
| evaluate, gate, next_task, approval, register, promote, card | as in flight_model | as in flight_model |

**Retries.** The same flights, settings and code are the same job: clearing a task waits for the running job or takes
its result, and never pays twice. Only a job that failed starts again, when you clear `submit`.
"""

from external_training import wiring

dag = wiring.create(__file__, __doc__)
