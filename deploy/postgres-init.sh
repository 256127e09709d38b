#!/bin/bash
# Runs once, on an empty data folder, inside the PostgreSQL image. The pipeline and Temporal get an account each:
# neither can read the other's database. Temporal creates its two databases itself.
set -euo pipefail

psql --no-psqlrc --set=ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres \
    --set=billing_password="$BILLING_PASSWORD" --set=temporal_password="$TEMPORAL_PASSWORD" <<'SQL'
CREATE ROLE billing LOGIN PASSWORD :'billing_password';
CREATE DATABASE billing OWNER billing;
REVOKE ALL ON DATABASE billing FROM PUBLIC;
CREATE ROLE temporal LOGIN CREATEDB PASSWORD :'temporal_password';
SQL
