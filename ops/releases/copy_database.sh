# Copies the database of the user DATABASE_NAME to the new database COPY, which only its owner can access.
# PGUSER and PGPASSWORD contain the login of the server's administrator.
set -eu
sql() { psql --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 "$@"; }

# Copies that interrupted rehearsals have left.
sql <<'END'
SELECT format('DROP DATABASE %I WITH (FORCE)', datname) FROM pg_database WHERE datname LIKE 'rehearsal\_%' \gexec
END

size=$(sql --command="SELECT pg_database_size('$DATABASE_NAME')")
used=$(sql --command="SELECT sum(pg_database_size(oid)) FROM pg_database WHERE has_database_privilege(oid, 'CONNECT')")
echo "size $size"
# Space for the copy, and the same again for the write-ahead log.
if [ $((used + 2 * size)) -gt "$DISK_BYTES" ]; then
  echo "not enough disk space to copy $((size >> 20)) MiB: $((used >> 20)) of $((DISK_BYTES >> 20)) MiB are in use"
  exit 1
fi

sql <<END
CREATE DATABASE "$COPY" OWNER "$DATABASE_NAME" ENCODING 'UTF8' TEMPLATE template0;
REVOKE ALL ON DATABASE "$COPY" FROM PUBLIC;
END

# A named pipe instead of a pipeline, so that the exit code of pg_dump is known.
export PGUSER="$DATABASE_NAME" PGPASSWORD="$DATABASE_PASSWORD"
dump=${TMPDIR:-/tmp}/dump
mkfifo "$dump"
pg_dump --dbname="$DATABASE_NAME" --no-owner --no-privileges --lock-wait-timeout=60000 >"$dump" &
PGDATABASE=$COPY sql --single-transaction --output=/dev/null <"$dump"
wait $!
