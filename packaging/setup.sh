#!/bin/sh
# Makes an installation ready to serve, once; running it again changes nothing.
#
#   TENANTRY_CATALOG_URL       the control database, which the role of this address owns
#   TENANTRY_MASTER_KEY_FILE   where the master key is, or shall be made
#   ADMIN_URL                  the administrator of the first PostgreSQL server
#   SERVER                     its name in the fleet [main]
#   REGION                     the region it stands in [none]
#   OPERATOR_KEY_FILE          where the first operator key is written [operator.key beside the master key]
set -eu

: "${TENANTRY_CATALOG_URL:?is the control database}"
: "${TENANTRY_MASTER_KEY_FILE:?is where the master key is}"
: "${ADMIN_URL:?is the address of the first server, as its administrator}"
server=${SERVER:-main}
operator_key=${OPERATOR_KEY_FILE:-$(dirname "$TENANTRY_MASTER_KEY_FILE")/operator.key}
tenantry=${TENANTRY:-tenantry}

# Written beside and then named: whoever reads it meanwhile finds none or all of it.
keep() {
    umask 077
    cat >"$1.new"
    [ -s "$1.new" ] || { rm -f "$1.new"; return 1; }
    mv "$1.new" "$1"
}

if [ ! -s "$TENANTRY_MASTER_KEY_FILE" ]; then
    head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n' | keep "$TENANTRY_MASTER_KEY_FILE"
    echo "the master key is in $TENANTRY_MASTER_KEY_FILE: keep a copy elsewhere, without it the catalog's secrets are lost"
fi

if ! "$tenantry" server list --json | tr -d ' \n' | grep -q "\"name\":\"$server\""; then
    set -- server add "$server" --url -
    [ -z "${REGION:-}" ] || set -- "$@" --region "$REGION"
    printf '%s' "$ADMIN_URL" | "$tenantry" "$@"
fi

if [ ! -s "$operator_key" ]; then
    # The key is shown once; a run that was killed before it was written makes another.
    "$tenantry" token create "setup-$(date +%Y%m%d-%H%M%S)" --json | tr -d ' \n' | sed -n 's/.*"key":"\([^"]*\)".*/\1/p' | keep "$operator_key"
    echo "the first operator key is in $operator_key"
fi
