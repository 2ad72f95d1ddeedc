# Drops the databases DATABASES and their owners, even while clients are connected.
set -eu
for name in $DATABASES; do
  case $name in
  preview-*) ;;
  *) echo "$name is not the database of a preview environment" && exit 1 ;;
  esac
  psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 \
    --command="DROP DATABASE IF EXISTS \"$name\" WITH (FORCE)" --command="DROP ROLE IF EXISTS \"$name\""
done
