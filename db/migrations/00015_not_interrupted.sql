-- +goose Up

-- Nothing has ever set it: a job whose worker stops goes on in another one.
ALTER TABLE background_tasks DROP interrupted;
