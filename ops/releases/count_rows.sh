# Prints the revisions of the copy's schema, and the row counts of the tables that matter to users.
set -eu
export PGUSER="$DATABASE_NAME" PGPASSWORD="$DATABASE_PASSWORD" PGDATABASE="$COPY"
psql --no-psqlrc --quiet --tuples-only --no-align --field-separator=' ' --set=ON_ERROR_STOP=1 <<'END'
SELECT format('SELECT ''revision'', %L, version_num FROM %I', tablename, tablename)
FROM pg_tables WHERE schemaname = 'public' AND tablename LIKE 'alembic\_version%' \gexec
SELECT format('SELECT ''rows'', %L, count(*) FROM %I', tablename, tablename)
FROM pg_tables WHERE schemaname = 'public'
AND tablename IN ('ab_user', 'connection', 'dag', 'dag_run', 'slot_pool', 'task_instance', 'variable', 'xcom') \gexec
END
