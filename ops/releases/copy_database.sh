# Copies the database of the user DATABASE_NAME into the new one COPY, which nobody but its owner may enter.
# The administrator of the server is in PGUSER and PGPASSWORD.
set -eu
sql() { psql --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 "$@"; }

# What a rehearsal that was killed has left.
sql <<'END'
SELECT format('DROP DATABASE %I WITH (FORCE)', datname) FROM pg_database WHERE datname LIKE 'rehearsal\_%' \gexec
END

size=$(sql --command="SELECT pg_database_size('$DATABASE_NAME')")
used=$(sql --command="SELECT sum(pg_database_size(oid)) FROM pg_database WHERE has_database_privilege(oid, 'CONNECT')")
echo "size $size"
# The copy, and as much again of the log that the server writes ahead.
if [ $((used + 2 * size)) -gt "$DISK_BYTES" ]; then
  echo "$((size >> 20)) MiB are to be copied, $((used >> 20)) of the disk's $((DISK_BYTES >> 20)) MiB are taken"
  exit 1
fi

sql <<END
CREATE DATABASE "$COPY" OWNER "$DATABASE_NAME" ENCODING 'UTF8' TEMPLATE template0;
REVOKE ALL ON DATABASE "$COPY" FROM PUBLIC;
END

# By a pipe with a name: the shell knows of a dump that broke off only by its own exit code.
export PGUSER="$DATABASE_NAME" PGPASSWORD="$DATABASE_PASSWORD"
dump=${TMPDIR:-/tmp}/dump
mkfifo "$dump"
pg_dump --dbname="$DATABASE_NAME" --no-owner --no-privileges --lock-wait-timeout=60000 >"$dump" &
PGDATABASE=$COPY sql --single-transaction --output=/dev/null <"$dump"
wait $!
