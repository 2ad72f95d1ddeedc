# Create the repository with a branch that has an empty DAGs folder, so that git-sync can follow it from the start.
set -eu
cd /git
[ -d dags.git ] && exit 0
rm -rf unfinished.git
git init --quiet --bare --initial-branch="$BRANCH" unfinished.git
export GIT_DIR=unfinished.git
git config uploadpack.allowAnySHA1InWant true # git-sync fetches commits by hash
file=$(git hash-object -w --stdin </dev/null)
dags=$(printf '100644 blob %s\t.gitkeep\n' "$file" | git mktree)
root=$(printf '040000 tree %s\t%s\n' "$dags" "$FOLDER" | git mktree)
commit=$(git -c user.name=airflow -c user.email=airflow@localhost commit-tree -m "Begin without DAGs" "$root")
git update-ref "refs/heads/$BRANCH" "$commit"
mv unfinished.git dags.git
