# Drops the copy, even while clients are connected.
set -eu
psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --command="DROP DATABASE IF EXISTS \"$COPY\" WITH (FORCE)"
