-- +goose Up

-- Whether whoever saved a database could sign in to it once, where its URL leads.
ALTER TABLE connections ADD answered boolean NOT NULL DEFAULT false;
UPDATE connections SET answered = true;
