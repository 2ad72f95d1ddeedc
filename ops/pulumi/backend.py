"""Where Pulumi keeps a stack's state, and the key that encrypts the secrets in it."""

from dataclasses import dataclass

from infra.aws.names import Limit, shortened
from infra.settings import PROJECT


@dataclass(frozen=True)
class Backend:
    """The state of one stack: a bucket for all stacks of an account and region, and a key for each stack."""

    bucket: str
    key_alias: str
    region: str

    @property
    def url(self) -> str:
        """The bucket's address for Pulumi."""
        return f"s3://{self.bucket}?region={self.region}"

    @property
    def secrets_provider(self) -> str:
        """The key's address for Pulumi."""
        return f"awskms://{self.key_alias}?region={self.region}"

    @property
    def environment(self) -> dict[str, str | None]:
        """Pulumi's environment: the state's address, the region, and no update check."""
        return {
            "PULUMI_BACKEND_URL": self.url,
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
        }


def backend_of(stack: str, account: str, region: str) -> Backend:
    """Return the backend of a stack in this account and region."""
    return Backend(
        bucket=shortened(f"{PROJECT}-pulumi-state-{account}-{region}", Limit.BUCKET),
        key_alias=f"alias/{shortened(f'{PROJECT}-{stack}-pulumi', Limit.ALIAS - len('alias/'))}",
        region=region,
    )
