#!/usr/bin/env bash
# Build the image of the StatsD exporter from its source, for a cluster that cannot pull it:
# exporter_image.sh v0.30.0 localhost/statsd-exporter
set -euo pipefail
version=$1 image=$2

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
GOBIN=$folder CGO_ENABLED=0 go install "github.com/prometheus/statsd_exporter@$version"
printf 'FROM scratch\nCOPY statsd_exporter /bin/\nUSER 65534\nENTRYPOINT ["/bin/statsd_exporter"]\n' >"$folder/Dockerfile"
buildah build --quiet --layers --tag "$image" "$folder" >/dev/null
