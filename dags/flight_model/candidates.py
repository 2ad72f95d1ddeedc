"""The models that compete: a logistic regression as the baseline, and gradient boosting with different settings.

Airflow reads the names when it parses the DAG, so scikit-learn is imported only where a model is made.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sklearn.base import ClassifierMixin

LOGISTIC = "logistic"
BOOSTING: dict[str, dict[str, Any]] = {
    "boosting": {},
    "boosting_slow": {"learning_rate": 0.05, "max_iter": 300},
    # Features that repeat each other, such as shares and weather, cannot crowd out the rest.
    "boosting_sampled": {"learning_rate": 0.05, "max_iter": 250, "min_samples_leaf": 100, "max_features": 0.2},
}
NAMES = [LOGISTIC, *BOOSTING]


def hyperparameters(name: str) -> dict[str, Any]:
    """Return the settings of a candidate that differ from scikit-learn's defaults."""
    return {"max_iter": 500} if name == LOGISTIC else BOOSTING[name]


def create(name: str, seed: int) -> "ClassifierMixin":
    """Return a candidate that is not fitted yet."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    settings = hyperparameters(name)
    if name == LOGISTIC:
        return make_pipeline(
            SimpleImputer(strategy="median"), StandardScaler(), LogisticRegression(**settings, random_state=seed)
        )
    # Early stopping would choose the number of trees on random rows, which are from the same days as the others.
    return HistGradientBoostingClassifier(**settings, early_stopping=False, random_state=seed)
