# The S3 server's startup probe: create the missing buckets of PROBE_BUCKETS, and fail until all of them exist.
# Objects in PROBE_EXPIRING_BUCKET are deleted after PROBE_EXPIRY.
set -eu
ask() { timeout 15 /usr/bin/weed -config_dir=/etc/s3 shell -master="$PROBE_MASTER"; }

present=$(echo s3.bucket.list | ask | awk '{print $1}')
missing=
for bucket in $PROBE_BUCKETS; do
  echo "$present" | grep -qx "$bucket" || missing="$missing $bucket"
done
[ -n "$missing" ] || exit 0
for bucket in $missing; do echo "s3.bucket.create -name $bucket"; done | ask
echo "fs.configure -locationPrefix=/buckets/$PROBE_EXPIRING_BUCKET/ -ttl=$PROBE_EXPIRY -apply" | ask
exit 1
