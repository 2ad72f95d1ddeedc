"""The certificate authorities of RDS: clients accept only a server with a certificate of its region's."""

import re
from pathlib import Path

import pulumi

from infra.errors import OperationError

FILE = Path(__file__).with_name("rds-certificates.pem")


class CertificateError(OperationError, pulumi.RunError):
    """A region's certificate authorities are unknown."""


def of_region(region: str) -> str:
    """Return the certificates of a region's authorities as PEM.

    Raises:
        CertificateError: The file lacks the region.
    """
    found = re.search(rf"^# {re.escape(region)}\n(.*?)(?=^# |\Z)", FILE.read_text(), re.MULTILINE | re.DOTALL)
    if not found:
        raise CertificateError(
            f"{FILE.name} has no certificate authority of RDS in {region}: append `# {region}` and the content of "
            f"https://truststore.pki.rds.amazonaws.com/{region}/{region}-bundle.pem to infra/aws/{FILE.name}"
        )
    return found[1].strip() + "\n"
