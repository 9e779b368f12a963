#!/bin/bash
# The official postgres image's interface on Debian's PostgreSQL: POSTGRES_DB, POSTGRES_USER, POSTGRES_PASSWORD (each also
# as NAME_FILE), PGDATA. A new cluster is made beside its final place and moved there, PG_VERSION last: a cluster is whole
# when PG_VERSION is there, so an interrupted start is done again from nothing.
set -euo pipefail

INCOMING=$PGDATA/.celium-lab-incoming

fail() {
    printf 'Error: %s\n' "$@" >&2
    exit 1
}

# setting NAME DEFAULT: the value of $NAME, or what stands in the file $NAME_FILE.
setting() {
    local file=${1}_FILE
    [[ -z ${!1:-} || -z ${!file:-} ]] || fail "both $1 and $file are set (but are exclusive)"
    if [[ -n ${!file:-} ]]; then cat "${!file}"; else printf '%s' "${!1:-$2}"; fi
}

initialise() {
    local user password database
    user=$(setting POSTGRES_USER postgres)
    password=$(setting POSTGRES_PASSWORD '')
    database=$(setting POSTGRES_DB "$user")
    [[ -n $password ]] || fail "Database is uninitialized and superuser password is not specified." \
        "You must specify POSTGRES_PASSWORD to a non-empty value for the superuser."
    if [[ -d $INCOMING ]]; then
        echo "an earlier initialisation was interrupted: starting again" >&2
        find "$PGDATA" -mindepth 1 -not -path "$INCOMING*" -delete
        rm -rf "$INCOMING"
    fi
    [[ -z $(ls -A "$PGDATA") ]] || fail "$PGDATA is not empty, and holds no database cluster"

    mkdir -m 700 "$INCOMING"
    initdb --pgdata="$INCOMING/cluster" --username="$user" --pwfile=<(printf '%s\n' "$password") --auth=trust \
        --encoding=UTF8 --no-sync >&2
    printf "listen_addresses = '*'\n" >> "$INCOMING/cluster/postgresql.conf"
    printf 'host all all all scram-sha-256\n' >> "$INCOMING/cluster/pg_hba.conf"
    if [[ $database != postgres ]]; then
        # A single-user server: nobody can connect, and no health check takes it for the real one.
        printf 'CREATE DATABASE "%s"\n' "${database//\"/\"\"}" | postgres --single -D "$INCOMING/cluster" postgres >&2
    fi
    mv "$INCOMING/cluster/PG_VERSION" "$INCOMING/PG_VERSION"
    (shopt -s dotglob && mv "$INCOMING"/cluster/* "$PGDATA/")
    sync --file-system "$PGDATA"
    mv "$INCOMING/PG_VERSION" "$PGDATA/PG_VERSION"
    echo "PostgreSQL init process complete; ready for start up." >&2
}

[[ ${1:-} != -* && $# -gt 0 ]] || set -- postgres "$@"
[[ $1 == postgres ]] || exec "$@"

if [[ $(id -u) == 0 ]]; then
    mkdir -p "$PGDATA"
    find "$PGDATA" \! -user postgres -exec chown postgres:postgres {} +
    chmod 700 "$PGDATA"
    exec setpriv --reuid=postgres --regid=postgres --init-groups --inh-caps=-all "$0" "$@"
fi

echo "celium-ops lab stand-in for the postgres image: Debian's PostgreSQL, not the official image" >&2
[[ -s $PGDATA/PG_VERSION ]] || initialise
rm -rf "$INCOMING"
exec "$@"
