"""The S3 buckets: input (data), results (artifacts) and logs."""

import pulumi
from pulumi_aws.s3 import BucketLifecycleConfigurationRuleArgs as LifecycleRuleArgs
from pulumi_aws.s3 import BucketLifecycleConfigurationRuleExpirationArgs as ExpirationArgs
from pulumi_aws.s3 import BucketLifecycleConfigurationRuleTransitionArgs as TransitionArgs

from infra.aws.account import Account
from infra.aws.bucket import Bucket, housekeeping, lifecycle_rule
from infra.settings import StorageSettings


class Storage(pulumi.ComponentResource):
    """The buckets.

    Attributes:
        data: The uploaded images.
        artifacts: Datasets, checkpoints, models, reports.
        logs: Airflow's task logs.
    """

    data: Bucket
    artifacts: Bucket
    logs: Bucket

    def __init__(
        self,
        name: str,
        settings: StorageSettings,
        account: Account,
        key_arn: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Create the buckets; `key_arn` encrypts them."""
        super().__init__("airflow:aws:Storage", name, opts=opts)
        self._child_opts = pulumi.ResourceOptions(parent=self)
        self._account = account
        self._key_arn = key_arn
        self._old_version_days = settings.old_version_days

        self._access_logs = self._create_access_logs(settings.access_log_days) if settings.access_log_days else None
        self.data = self._create_bucket("data", cold_storage(settings.cold_storage_days))
        self.artifacts = self._create_bucket("artifacts")
        self.logs = self._create_bucket("logs", expiration(settings.log_days))

        self.register_outputs({"data": self.data.name, "artifacts": self.artifacts.name, "logs": self.logs.name})

    def _create_access_logs(self, days: int) -> Bucket:
        # S3 delivers access logs only to buckets that are encrypted with S3's own keys:
        # https://docs.aws.amazon.com/AmazonS3/latest/userguide/enable-server-access-logging.html
        return Bucket(
            "access-logs",
            self._account,
            lifecycle=[expiration(days), *housekeeping(self._old_version_days)],
            key_arn=None,
            receives_access_logs=True,
            opts=self._child_opts,
        )

    def _create_bucket(self, purpose: str, *lifecycle: LifecycleRuleArgs) -> Bucket:
        return Bucket(
            purpose,
            self._account,
            lifecycle=[*lifecycle, *housekeeping(self._old_version_days)],
            key_arn=self._key_arn,
            access_logs=self._access_logs,
            opts=self._child_opts,
        )


def cold_storage(days: int) -> LifecycleRuleArgs:
    """Return the rule that moves older objects to a storage class at a sixth of the price and the same latency."""
    return lifecycle_rule("cold-storage", transitions=[TransitionArgs(days=days, storage_class="GLACIER_IR")])


def expiration(days: int) -> LifecycleRuleArgs:
    """Return the rule that deletes older objects."""
    return lifecycle_rule("expiration", expiration=ExpirationArgs(days=days))
