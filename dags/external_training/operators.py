"""The operators that submit a job and wait for it, by the name of the system; importing them takes a second."""

OPERATORS = {"sagemaker": "external_training.sagemaker_operator:TrainingOperator"}
