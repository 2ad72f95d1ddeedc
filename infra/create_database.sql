-- Creates a database and its owner, or changes the owner's password. Everything comes by the environment.
\set ON_ERROR_STOP on
\getenv name DATABASE_NAME
\getenv password DATABASE_PASSWORD
\getenv connections DATABASE_CONNECTIONS

SELECT format('CREATE ROLE %I', :'name') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'name') \gexec
ALTER ROLE :"name" LOGIN PASSWORD :'password';
\if :{?connections}
ALTER ROLE :"name" CONNECTION LIMIT :connections;
\endif

-- The administrator of RDS is no superuser: it may give a database to the members of its own roles only.
GRANT :"name" TO CURRENT_USER;
-- UTF8 whatever the server's default is: psycopg cannot read text from a database in SQL_ASCII.
SELECT format('CREATE DATABASE %I OWNER %I ENCODING ''UTF8'' TEMPLATE template0', :'name', :'name')
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name') \gexec

-- By default every user may connect to every database.
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
