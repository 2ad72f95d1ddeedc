"""An S3 bucket: private, encrypted, versioned, with lifecycle rules, and closed to requests without TLS."""

from collections.abc import Sequence

import pulumi
import pulumi_aws as aws
from pulumi_aws.s3 import (
    BucketLifecycleConfigurationRuleAbortIncompleteMultipartUploadArgs as AbortUploadArgs,
)
from pulumi_aws.s3 import BucketLifecycleConfigurationRuleArgs as LifecycleRuleArgs
from pulumi_aws.s3 import BucketLifecycleConfigurationRuleFilterArgs as FilterArgs
from pulumi_aws.s3 import (
    BucketLifecycleConfigurationRuleNoncurrentVersionExpirationArgs as OldVersionExpirationArgs,
)
from pulumi_aws.s3 import (
    BucketServerSideEncryptionConfigurationRuleApplyServerSideEncryptionByDefaultArgs as DefaultEncryptionArgs,
)
from pulumi_aws.s3 import BucketServerSideEncryptionConfigurationRuleArgs as EncryptionRuleArgs

from infra.aws.account import Account
from infra.aws.policies import Statement, document

INCOMPLETE_UPLOAD_DAYS = 7


class Bucket(pulumi.ComponentResource):
    """An S3 bucket with its policy, encryption and lifecycle.

    Attributes:
        name: The bucket's name.
        arn: The bucket's ARN.
    """

    name: pulumi.Output[str]
    arn: pulumi.Output[str]

    def __init__(
        self,
        purpose: str,
        account: Account,
        *,
        lifecycle: Sequence[LifecycleRuleArgs],
        key_arn: pulumi.Input[str] | None,
        access_logs: "Bucket | None" = None,
        receives_access_logs: bool = False,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Create the bucket; without `key_arn`, it is encrypted with S3's own keys."""
        super().__init__("airflow:aws:Bucket", f"{purpose}-bucket", opts=opts)
        self._child_opts = pulumi.ResourceOptions(parent=self)
        self._purpose = purpose
        self._account = account

        bucket = self._create_bucket()
        self.name = bucket.bucket
        self.arn = bucket.arn
        self._create_access_rules(receives_access_logs)
        self._create_encryption(key_arn)
        self._create_lifecycle(lifecycle)
        if access_logs:
            self._create_logging(access_logs)

        self.register_outputs({"name": self.name, "arn": self.arn})

    def _create_bucket(self) -> aws.s3.Bucket:
        names, purpose, protect = self._account.names, self._purpose, self._account.protect
        return aws.s3.Bucket(
            purpose,
            bucket=self._account.id.apply(lambda account: names.bucket(purpose, account)),
            force_destroy=not protect,
            opts=pulumi.ResourceOptions.merge(self._child_opts, pulumi.ResourceOptions(protect=protect)),
        )

    def _create_access_rules(self, receives_access_logs: bool) -> None:
        block = aws.s3.BucketPublicAccessBlock(
            f"{self._purpose}-public-access-block",
            bucket=self.name,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            opts=self._child_opts,
        )
        ownership = aws.s3.BucketOwnershipControls(
            f"{self._purpose}-ownership",
            bucket=self.name,
            rule=aws.s3.BucketOwnershipControlsRuleArgs(object_ownership="BucketOwnerEnforced"),
            opts=self._after(block),
        )
        logged_prefix = self._account.names.prefix if receives_access_logs else None
        policy = pulumi.Output.all(self.arn, self._account.id).apply(
            lambda known: bucket_policy(known[0], known[1], logged_prefix)
        )
        # In sequence, because S3 refuses concurrent changes to a bucket's access settings.
        aws.s3.BucketPolicy(f"{self._purpose}-policy", bucket=self.name, policy=policy, opts=self._after(ownership))

    def _create_encryption(self, key_arn: pulumi.Input[str] | None) -> None:
        rule = EncryptionRuleArgs(
            apply_server_side_encryption_by_default=DefaultEncryptionArgs(
                sse_algorithm="aws:kms" if key_arn else "AES256", kms_master_key_id=key_arn
            ),
            bucket_key_enabled=bool(key_arn),
        )
        aws.s3.BucketServerSideEncryptionConfiguration(
            f"{self._purpose}-encryption", bucket=self.name, rules=[rule], opts=self._child_opts
        )

    def _create_lifecycle(self, rules: Sequence[LifecycleRuleArgs]) -> None:
        versioning = aws.s3.BucketVersioning(
            f"{self._purpose}-versioning",
            bucket=self.name,
            versioning_configuration=aws.s3.BucketVersioningVersioningConfigurationArgs(status="Enabled"),
            opts=self._child_opts,
        )
        aws.s3.BucketLifecycleConfiguration(
            f"{self._purpose}-lifecycle", bucket=self.name, rules=rules, opts=self._after(versioning)
        )

    def _create_logging(self, target: "Bucket") -> None:
        aws.s3.BucketLogging(
            f"{self._purpose}-logging",
            bucket=self.name,
            target_bucket=target.name,
            target_prefix=f"{self._purpose}/",
            opts=self._after(target),
        )

    def _after(self, resource: pulumi.Resource) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions.merge(self._child_opts, pulumi.ResourceOptions(depends_on=[resource]))


def bucket_policy(bucket_arn: str, account: str, receives_access_logs_of: str | None) -> str:
    """Return a policy that denies requests without TLS and, if requested, lets S3 deliver access logs."""
    transport = Statement(
        ("s3:*",),
        (bucket_arn, f"{bucket_arn}/*"),
        conditions={"Bool": {"aws:SecureTransport": "false"}},
        principals="*",
        effect="Deny",
    )
    if receives_access_logs_of is None:
        return document(transport)
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/enable-server-access-logging.html
    delivery = Statement(
        ("s3:PutObject",),
        (f"{bucket_arn}/*",),
        conditions={
            "ArnLike": {"aws:SourceArn": f"arn:aws:s3:::{receives_access_logs_of}-*"},
            "StringEquals": {"aws:SourceAccount": account},
        },
        principals={"Service": "logging.s3.amazonaws.com"},
    )
    return document(transport, delivery)


def lifecycle_rule(
    name: str,
    *,
    transitions: Sequence[aws.s3.BucketLifecycleConfigurationRuleTransitionArgs] | None = None,
    expiration: aws.s3.BucketLifecycleConfigurationRuleExpirationArgs | None = None,
    old_versions: OldVersionExpirationArgs | None = None,
    uploads: AbortUploadArgs | None = None,
) -> LifecycleRuleArgs:
    """Return a rule that applies to the whole bucket."""
    return LifecycleRuleArgs(
        id=name,
        status="Enabled",
        filter=FilterArgs(prefix=""),
        transitions=transitions,
        expiration=expiration,
        noncurrent_version_expiration=old_versions,
        abort_incomplete_multipart_upload=uploads,
    )


def housekeeping(old_version_days: int) -> list[LifecycleRuleArgs]:
    """Return the rules of every bucket: without them, old versions and incomplete uploads are billed forever."""
    return [
        lifecycle_rule("old-versions", old_versions=OldVersionExpirationArgs(noncurrent_days=old_version_days)),
        lifecycle_rule("incomplete-uploads", uploads=AbortUploadArgs(days_after_initiation=INCOMPLETE_UPLOAD_DAYS)),
    ]
