-- One object of many kinds, for the comparison with pg_restore.
CREATE ROLE archive_owner;
CREATE SCHEMA app AUTHORIZATION archive_owner;
CREATE SCHEMA "a ""quoted"" name";
COMMENT ON SCHEMA app IS E'two lines,\n''quotes'', \\ and ünïcödé';
ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT SELECT ON TABLES TO archive_owner;
CREATE EXTENSION btree_gist WITH SCHEMA app;

CREATE TYPE app.mood AS ENUM ('sad', 'it''s ok');
CREATE TYPE app.address AS (street text, zip varchar(10));
CREATE TYPE app.span AS RANGE (subtype = float8);
CREATE DOMAIN app.positive AS int CHECK (VALUE > 0);
CREATE COLLATION app.plain FROM "C";
CREATE SEQUENCE app.numbers INCREMENT 7 OWNED BY NONE;

CREATE FUNCTION app.lowest(text) RETURNS text LANGUAGE sql IMMUTABLE AS $f$ SELECT lower($1) || '; $x$' $f$;
DO $do$ BEGIN
    IF current_setting('server_version_num')::int >= 140000 THEN
        CREATE FUNCTION app.atomic(int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT $1; SELECT $1 + 1; END;
    END IF;
END $do$;
CREATE FUNCTION app.touch() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN RETURN new; END $f$;
CREATE FUNCTION app.told() RETURNS event_trigger LANGUAGE plpgsql AS $f$ BEGIN END $f$;
CREATE PROCEDURE app.act(INOUT x int) LANGUAGE plpgsql AS $p$ BEGIN x := x + 1; END $p$;
CREATE AGGREGATE app.total(numeric) (SFUNC = numeric_add, STYPE = numeric);
CREATE OPERATOR app.=== (LEFTARG = text, RIGHTARG = text, PROCEDURE = texteq);
CREATE OPERATOR FAMILY app.family USING btree;
CREATE CAST (app.address AS text) WITH INOUT;
CREATE TEXT SEARCH DICTIONARY app.words (TEMPLATE = simple);
CREATE TEXT SEARCH CONFIGURATION app.search (COPY = english);
CREATE FOREIGN DATA WRAPPER nothing;
CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing OPTIONS (host 'a''b');
CREATE ACCESS METHOD heap_again TYPE TABLE HANDLER heap_tableam_handler;

CREATE TABLE app.customers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL COLLATE app.plain,
    note text DEFAULT E'a\nALTER TABLE ONLY app.customers ALTER COLUMN id SET (pg_attver=7);\n',
    lower_name text GENERATED ALWAYS AS (app.lowest(name)) STORED,
    during tstzrange, UNIQUE (name), EXCLUDE USING gist (id WITH =, during WITH &&));
ALTER TABLE app.customers OWNER TO archive_owner;
ALTER TABLE app.customers ALTER COLUMN name SET (n_distinct = -0.5, n_distinct_inherited = 3);
ALTER TABLE app.customers ALTER COLUMN name SET STATISTICS 200;
GRANT SELECT (name) ON app.customers TO archive_owner;
COMMENT ON COLUMN app.customers.name IS 'a column';
CREATE TABLE "a ""quoted"" name"."line
break; -- ""x""" ("pg_attver=1, x" int REFERENCES app.customers (id));
CREATE TABLE app.events (at date NOT NULL, what app.mood) PARTITION BY RANGE (at);
CREATE TABLE app.events_2025 PARTITION OF app.events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE app.events_rest PARTITION OF app.events DEFAULT;
CREATE INDEX ON app.events (at);
CREATE TABLE app.child (extra int) INHERITS (app.customers) USING heap_again;
CREATE FOREIGN TABLE app.far (id int OPTIONS (name 'it''s')) SERVER nowhere;
CREATE INDEX customers_lower ON app.customers (lower(name)) WHERE note IS NOT NULL;
CREATE STATISTICS app.pairs ON id, name FROM app.customers;
CREATE TRIGGER touched BEFORE UPDATE ON app.customers FOR EACH ROW EXECUTE FUNCTION app.touch();
CREATE EVENT TRIGGER told ON ddl_command_end EXECUTE FUNCTION app.told();
ALTER EVENT TRIGGER told DISABLE;
ALTER TABLE app.customers ENABLE ROW LEVEL SECURITY;
CREATE POLICY visible ON app.customers USING (name <> '');
CREATE RULE quiet AS ON DELETE TO app.child DO INSTEAD NOTHING;
CREATE VIEW app.grouped AS SELECT c.* FROM app.customers c GROUP BY c.id;
CREATE MATERIALIZED VIEW app.counted AS SELECT count(*) FROM app.customers;
CREATE PUBLICATION news FOR TABLE app.child;
INSERT INTO app.events VALUES ('2025-06-01', 'sad');
SELECT lo_create(4711);
