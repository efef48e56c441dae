#!/bin/sh
# Writes what PostgreSQL says about every query into a folder: devstack/prepare-queries.sh FOLDER, run by `devstack run`.
set -eu
folder=$PWD/$1
# By psql: the program that migrates cannot be built while a query is new.
for migration in migrations/*.sql; do
    psql --quiet --set ON_ERROR_STOP=1 --single-transaction --file "$migration" "$DATABASE_URL" >/dev/null
done
rm -rf "$folder"
mkdir -p "$folder"
# The macros write while they compile, so the library has to be compiled again.
touch src/lib.rs
SQLX_OFFLINE=false SQLX_OFFLINE_DIR=$folder cargo check --locked --quiet --lib
