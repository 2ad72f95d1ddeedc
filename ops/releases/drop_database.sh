# Drops the copy, whoever is still connected to it.
set -eu
psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --command="DROP DATABASE IF EXISTS \"$COPY\" WITH (FORCE)"
