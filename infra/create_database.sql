-- Create a database, its owner, its other users and its extension, or change their passwords. The values come from
-- environment variables; DATABASE_USERS is a JSON object of passwords by name.
\set ON_ERROR_STOP on
\getenv name DATABASE_NAME
\getenv password DATABASE_PASSWORD
\getenv connections DATABASE_CONNECTIONS
\getenv users DATABASE_USERS
\getenv user_connections USER_CONNECTIONS
\getenv extension DATABASE_EXTENSION

SELECT format('CREATE ROLE %I', :'name') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'name') \gexec
ALTER ROLE :"name" LOGIN PASSWORD :'password';
\if :{?connections}
ALTER ROLE :"name" CONNECTION LIMIT :connections;
\endif

-- The administrator of RDS is not a superuser and can only assign a database to a role that it is a member of.
GRANT :"name" TO CURRENT_USER;
-- Always UTF8, whatever the server's default: psycopg cannot read text from a SQL_ASCII database.
SELECT format('CREATE DATABASE %I OWNER %I ENCODING ''UTF8'' TEMPLATE template0', :'name', :'name')
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name') \gexec

-- By default every user may connect to every database, also to those that a new server has.
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
-- This script runs for several databases at once, but only one session at a time can change the rights on a database.
SELECT pg_advisory_lock(1) \g /dev/null
SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', datname) FROM pg_database
WHERE datname IN ('postgres', 'template1') AND pg_has_role(datdba, 'USAGE') \gexec

-- The owner of the tables gives them rights: images/airflow/bin/database_users.py.
SELECT format('CREATE ROLE %I', key) FROM json_each_text(:'users')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = key) \gexec
SELECT format('ALTER ROLE %I LOGIN PASSWORD %L CONNECTION LIMIT %s', key, value, :'user_connections')
FROM json_each_text(:'users') \gexec
SELECT format('GRANT CONNECT ON DATABASE %I TO %I', :'name', key) FROM json_each_text(:'users') \gexec

-- A server without the extension is no reason to fail: what needs it says so.
\if :{?extension}
\connect :"name"
SELECT format('CREATE EXTENSION IF NOT EXISTS %I', name) FROM pg_available_extensions WHERE name = :'extension' \gexec
\endif
