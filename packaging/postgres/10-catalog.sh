#!/bin/sh
# Run by the image of PostgreSQL when its data directory is new: the control database and the role that owns it.
set -eu

: "${CATALOG_PASSWORD:?is the password of the control database}"
psql --no-psqlrc --set=ON_ERROR_STOP=1 --set=password="$CATALOG_PASSWORD" --username "${POSTGRES_USER:-postgres}" --dbname postgres <<'SQL'
create role tenantry_catalog login password :'password';
create database tenantry_catalog owner tenantry_catalog;
revoke connect on database tenantry_catalog from public;
SQL
