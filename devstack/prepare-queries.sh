#!/bin/sh
# Writes what PostgreSQL says about every query into a folder: devstack/prepare-queries.sh FOLDER, run by `devstack run`.
set -eu
folder=$PWD/$1
# Only the database is there.
export HOLDFAST__LOCK__BACKEND=none
SQLX_OFFLINE=true cargo run --locked --quiet --bin holdfast -- migrate
rm -rf "$folder"
mkdir -p "$folder"
# The macros write while they compile, so the library has to be compiled again.
touch src/lib.rs
SQLX_OFFLINE=false SQLX_OFFLINE_DIR=$folder cargo check --locked --quiet --lib
