-- A lending library: small enough to be filled in seconds, with one of most things that a
-- clone has to carry over.
CREATE EXTENSION IF NOT EXISTS pg_trgm;
CREATE SCHEMA library;
COMMENT ON SCHEMA library IS 'Books, the people who borrow them, and who has what.';
CREATE SCHEMA reports;
SET search_path = library, public;

CREATE TYPE standing AS ENUM ('good', 'warned', 'barred');
CREATE DOMAIN isbn AS text CHECK (VALUE ~ '^97[89]-[0-9]{10}$');
CREATE FUNCTION normalized(title text) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog
    AS $$ SELECT lower(regexp_replace(title, '^(the|a|el|la) ', '', 'i')) $$;

CREATE TABLE member (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name     text NOT NULL,
    email    text NOT NULL UNIQUE,
    standing standing NOT NULL DEFAULT 'good',
    joined   date NOT NULL,
    prefs    jsonb NOT NULL DEFAULT '{}'
);
INSERT INTO member (name, email, standing, joined, prefs)
SELECT 'Member ' || g, 'member' || g || '@example.org', (ARRAY['good', 'good', 'good', 'warned', 'barred'])[1 + g % 5]::standing,
       date '2015-01-01' + g % 3000, jsonb_build_object('newsletter', g % 3 = 0, 'language', (ARRAY['en', 'es'])[1 + g % 2])
FROM generate_series(1, 40000) g;

CREATE TABLE book (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    isbn       isbn NOT NULL UNIQUE,
    title      text NOT NULL,
    sort_title text GENERATED ALWAYS AS (normalized(title)) STORED,
    price      numeric(8, 2) CHECK (price >= 0),
    subjects   text[] NOT NULL DEFAULT '{}',
    about      text,
    cover      bytea
);
INSERT INTO book (isbn, title, price, subjects, about, cover)
SELECT '978-' || lpad(g::text, 10, '0'), (ARRAY['The ', 'A ', 'El ', ''])[1 + g % 4] || 'Book of ' || md5(g::text), g % 100 + 0.95,
       ARRAY['subject ' || g % 17, 'subject ' || g % 31], repeat(md5(g::text) || ' ', 20), decode(repeat(md5(g::text), 8), 'hex')
FROM generate_series(1, 20000) g;

CREATE TABLE loan (
    id        bigint GENERATED ALWAYS AS IDENTITY,
    member_id bigint NOT NULL,
    book_id   bigint NOT NULL,
    lent      date NOT NULL,
    returned  date,
    PRIMARY KEY (id, lent)
) PARTITION BY RANGE (lent);
CREATE TABLE loan_2024 PARTITION OF loan FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE loan_2025 PARTITION OF loan FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE loan_other PARTITION OF loan DEFAULT;
INSERT INTO loan (member_id, book_id, lent, returned)
SELECT 1 + g % 40000, 1 + (g::bigint * 7919) % 20000, date '2023-06-01' + g % 1000, CASE WHEN g % 9 > 0 THEN date '2023-06-01' + g % 1000 + 21 END
FROM generate_series(1, 300000) g;

CREATE INDEX ON loan (member_id);
CREATE INDEX ON loan (book_id) WHERE returned IS NULL;
CREATE INDEX ON book USING gin (title gin_trgm_ops);
CREATE INDEX ON book USING gin (subjects);
ALTER TABLE loan ADD FOREIGN KEY (member_id) REFERENCES member;
ALTER TABLE loan ADD FOREIGN KEY (book_id) REFERENCES book;

CREATE FUNCTION refuse_barred() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM library.member WHERE id = NEW.member_id AND standing = 'barred') THEN
        RAISE EXCEPTION 'member % may not borrow', NEW.member_id;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse_barred BEFORE INSERT ON loan FOR EACH ROW EXECUTE FUNCTION refuse_barred();

CREATE VIEW reports.overdue AS
    SELECT m.name, b.title, l.lent FROM loan l JOIN member m ON m.id = l.member_id JOIN book b ON b.id = l.book_id
    WHERE l.returned IS NULL AND l.lent < date '2026-01-01' - 21;
CREATE MATERIALIZED VIEW reports.most_read AS
    SELECT b.id, b.title, count(*) AS loans FROM loan l JOIN book b ON b.id = l.book_id GROUP BY b.id;
CREATE UNIQUE INDEX ON reports.most_read (id);
SELECT lo_from_bytea(0, convert_to('House rules: be quiet, be kind, bring it back.', 'UTF8'));
ANALYZE;
