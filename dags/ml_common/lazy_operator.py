"""A task that runs an operator of a provider, which is imported when the task runs: parsing stays fast."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, ClassVar

from airflow.sdk import BaseOperator, XComArg
from airflow.sdk.exceptions import AirflowException

from ml_common.errors import PermanentError


class LazyOperator(BaseOperator):
    """Runs an operator, which may defer: a trigger then waits, and no pod.

    After a deferral, an error of the operator means that what it waited for failed or took too long. It is not retried:
    that would start the work again.

    Attributes:
        operator: The operator's class, as module:class.
        arguments: The operator's arguments, which may contain templates and the results of other tasks; if they are
            None, there is nothing to do.
    """

    template_fields = ("arguments",)
    template_fields_renderers: ClassVar = {"arguments": "json"}

    def __init__(self, *, operator: str, arguments: Mapping[str, Any] | XComArg | None, **kwargs: Any) -> None:
        """Describe the operator.

        Args:
            operator: The operator's class, as module:class.
            arguments: The operator's arguments, or None.
            **kwargs: Arguments of any task.
        """
        super().__init__(**kwargs)
        self.operator = operator
        self.arguments: Any = arguments

    def execute(self, context: Any) -> Any:
        """Run the operator, if there are arguments."""
        if self.arguments is None:
            self.log.info("There is nothing to do.")
            return None
        return self._create().execute(context)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Any) -> Any:
        """Continue the operator after a deferral.

        Raises:
            PermanentError: What the operator waited for failed.
        """
        try:
            return self._create().resume_execution(next_method, next_kwargs, context)
        except AirflowException as error:
            raise PermanentError(str(error)) from error

    def _create(self) -> BaseOperator:
        module, _, name = self.operator.partition(":")
        operator: BaseOperator = getattr(import_module(module), name)(task_id=self.task_id, **(self.arguments or {}))
        return operator
