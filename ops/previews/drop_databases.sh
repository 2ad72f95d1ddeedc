# Drops the databases DATABASES and their users, even while clients are connected: the owner, who has the name of the
# database, and those of COMPONENTS.
set -eu
for name in $DATABASES; do
  case $name in
  preview-*) ;;
  *) echo "$name is not the database of a preview environment" && exit 1 ;;
  esac
  sql() { psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --command="$1"; }
  sql "DROP DATABASE IF EXISTS \"$name\" WITH (FORCE)"
  for component in $COMPONENTS; do
    sql "DROP ROLE IF EXISTS \"$name-$component\""
  done
  sql "DROP ROLE IF EXISTS \"$name\""
done
