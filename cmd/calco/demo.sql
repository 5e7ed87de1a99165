-- A web shop, large enough that its clone can be watched. It is filled in one transaction: it is there as a whole, or
-- not at all. Keys and indexes come after the rows, which is faster.
SET synchronous_commit = off;
SET maintenance_work_mem = '256MB';
SET work_mem = '64MB';
CREATE FUNCTION pg_temp.many(n int) RETURNS int IMMUTABLE LANGUAGE sql AS $$ SELECT n / 100 * current_setting('calco.percent')::int $$;
CREATE SCHEMA shop;
CREATE SCHEMA billing;
CREATE SCHEMA analytics;
COMMENT ON SCHEMA shop IS 'Customers, what they can buy, and what they have bought.';
SET search_path = shop;

CREATE TYPE order_status AS ENUM ('placed', 'paid', 'shipped', 'returned');

CREATE TABLE country (code char(2) PRIMARY KEY, name text NOT NULL, vat numeric(4, 1) NOT NULL);
INSERT INTO country VALUES ('ES', 'España', 21), ('DE', 'Deutschland', 19), ('FR', 'France', 20), ('IT', 'Italia', 22),
       ('PT', 'Portugal', 23), ('NL', 'Nederland', 21), ('MX', 'México', 16), ('AR', 'Argentina', 21);

CREATE TABLE category (id int PRIMARY KEY, parent_id int REFERENCES category, name text NOT NULL);
INSERT INTO category SELECT g, CASE WHEN g > 12 THEN 1 + g % 12 END, 'Category ' || g FROM generate_series(1, 120) g;

CREATE TABLE supplier (id int PRIMARY KEY, name text NOT NULL UNIQUE, country char(2) NOT NULL REFERENCES country);
INSERT INTO supplier SELECT g, 'Supplier ' || g, (ARRAY['ES', 'DE', 'FR', 'IT', 'PT', 'NL', 'MX', 'AR'])[1 + g % 8] FROM generate_series(1, 800) g;

CREATE TABLE product (
    id          int GENERATED ALWAYS AS IDENTITY,
    category_id int NOT NULL,
    supplier_id int NOT NULL,
    name        text NOT NULL,
    price       numeric(8, 2) NOT NULL CHECK (price > 0),
    tags        text[] NOT NULL,
    description text NOT NULL
);
INSERT INTO product (category_id, supplier_id, name, price, tags, description)
SELECT 1 + g % 120, 1 + g % 800, 'Product ' || g, 1 + g % 500 + 0.95, ARRAY['tag ' || g % 17, 'tag ' || g % 31], repeat(md5(g::text) || ' ', 12)
FROM generate_series(1, pg_temp.many(40000)) g;

CREATE TABLE customer (
    id        int GENERATED ALWAYS AS IDENTITY,
    name      text NOT NULL,
    email     text NOT NULL,
    country   char(2) NOT NULL,
    joined_at timestamptz NOT NULL,
    prefs     jsonb NOT NULL DEFAULT '{}'
);
INSERT INTO customer (name, email, country, joined_at, prefs)
SELECT 'Customer ' || g, 'customer' || g || '@example.org', (ARRAY['ES', 'DE', 'FR', 'IT', 'PT', 'NL', 'MX', 'AR'])[1 + g % 8],
       timestamptz '2019-01-01' + g * interval '17 min', jsonb_build_object('newsletter', g % 3 = 0, 'language', (ARRAY['en', 'es'])[1 + g % 2])
FROM generate_series(1, pg_temp.many(150000)) g;

CREATE TABLE orders (
    id          int GENERATED ALWAYS AS IDENTITY,
    customer_id int NOT NULL,
    status      order_status NOT NULL,
    placed_at   timestamptz NOT NULL,
    note        text
);
INSERT INTO orders (customer_id, status, placed_at, note)
SELECT 1 + (g::bigint * 7919) % pg_temp.many(150000), (ARRAY['placed', 'paid', 'shipped', 'shipped', 'returned'])[1 + g % 5]::order_status,
       timestamptz '2021-01-01' + g * interval '3 min', CASE WHEN g % 7 = 0 THEN 'Please ring twice at door ' || g % 90 END
FROM generate_series(1, pg_temp.many(700000)) g;

CREATE TABLE order_item (
    order_id   int NOT NULL,
    line       int NOT NULL,
    product_id int NOT NULL,
    quantity   int NOT NULL,
    price      numeric(8, 2) NOT NULL
);
INSERT INTO order_item
SELECT 1 + g / 3, 1 + g % 3, 1 + (g::bigint * 104729) % pg_temp.many(40000), 1 + g % 4, 1 + g % 500 + 0.95
FROM generate_series(0, 3 * pg_temp.many(700000) - 1) g;

CREATE TABLE review (
    id         int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    product_id int NOT NULL,
    stars      int NOT NULL CHECK (stars BETWEEN 1 AND 5),
    body       text NOT NULL
);
INSERT INTO review (product_id, stars, body)
SELECT 1 + (g::bigint * 31) % pg_temp.many(40000), 1 + g % 5, repeat('Works as described, arrived in ' || g % 9 || ' days. ', 1 + g % 8) FROM generate_series(1, pg_temp.many(120000)) g;

CREATE TABLE billing.invoice (
    number    int PRIMARY KEY,
    order_id  int NOT NULL,
    total     numeric(10, 2) NOT NULL,
    issued_on date NOT NULL
);
INSERT INTO billing.invoice SELECT g, g, g % 900 + 9.9, date '2021-01-01' + g / 480 FROM generate_series(1, pg_temp.many(500000)) g;

CREATE TABLE analytics.visit (
    id         bigint NOT NULL,
    seen_at    timestamptz NOT NULL,
    session    uuid NOT NULL,
    path       text NOT NULL,
    properties jsonb NOT NULL
) PARTITION BY RANGE (seen_at);
CREATE TABLE analytics.visit_2024 PARTITION OF analytics.visit FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE analytics.visit_2025 PARTITION OF analytics.visit FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE analytics.visit_2026 PARTITION OF analytics.visit FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
INSERT INTO analytics.visit
SELECT g, timestamptz '2024-01-01' + g * interval '70 s', md5((g / 6)::text)::uuid, '/products/' || g % pg_temp.many(40000),
       jsonb_build_object('referrer', 'https://search.example.org/?q=' || g % 977, 'width', 360 + g % 1600, 'touch', g % 2 = 0)
FROM generate_series(1, pg_temp.many(1100000)) g;

ALTER TABLE product ADD PRIMARY KEY (id);
ALTER TABLE customer ADD PRIMARY KEY (id), ADD UNIQUE (email);
ALTER TABLE orders ADD PRIMARY KEY (id);
ALTER TABLE order_item ADD PRIMARY KEY (order_id, line);
ALTER TABLE analytics.visit ADD PRIMARY KEY (id, seen_at);
CREATE INDEX ON product (category_id);
CREATE INDEX ON product USING gin (tags);
CREATE INDEX ON customer (lower(name));
CREATE INDEX ON orders (customer_id);
CREATE INDEX ON orders (placed_at) WHERE status = 'placed';
CREATE INDEX ON order_item (product_id);
CREATE INDEX ON review (product_id);
CREATE INDEX ON billing.invoice (issued_on);
CREATE INDEX ON analytics.visit (session);
ALTER TABLE product ADD FOREIGN KEY (category_id) REFERENCES category, ADD FOREIGN KEY (supplier_id) REFERENCES supplier;
ALTER TABLE customer ADD FOREIGN KEY (country) REFERENCES country;
ALTER TABLE orders ADD FOREIGN KEY (customer_id) REFERENCES customer;
ALTER TABLE order_item ADD FOREIGN KEY (order_id) REFERENCES orders, ADD FOREIGN KEY (product_id) REFERENCES product;
ALTER TABLE review ADD FOREIGN KEY (product_id) REFERENCES product;
ALTER TABLE billing.invoice ADD FOREIGN KEY (order_id) REFERENCES orders;

CREATE VIEW shop.unpaid AS
    SELECT o.id, c.name, c.email, o.placed_at FROM orders o JOIN customer c ON c.id = o.customer_id WHERE o.status = 'placed';
CREATE MATERIALIZED VIEW analytics.bestseller AS
    SELECT p.id, p.name, sum(i.quantity) AS sold FROM order_item i JOIN product p ON p.id = i.product_id GROUP BY p.id, p.name;
CREATE UNIQUE INDEX ON analytics.bestseller (id);
CREATE FUNCTION shop.stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.placed_at := coalesce(NEW.placed_at, now()); RETURN NEW; END $$;
CREATE TRIGGER stamp BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION shop.stamp();
ANALYZE;
