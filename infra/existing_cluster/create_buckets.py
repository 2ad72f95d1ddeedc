"""Create the buckets named in BUCKETS; the S3 server runs this at each start, for it forgets empty ones."""

import os

from botocore.exceptions import ClientError
from botocore.session import get_session

s3 = get_session().create_client("s3")
for bucket in os.environ["BUCKETS"].split():
    try:
        s3.create_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["Error"]["Code"] != "BucketAlreadyOwnedByYou":
            raise
