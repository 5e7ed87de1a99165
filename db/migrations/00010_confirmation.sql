-- +goose Up

-- What its user has agreed to have dropped. A job from before this has none, and is refused before it drops anything.
ALTER TABLE background_tasks
	ADD confirmation jsonb CHECK (confirmation IS NULL OR clean);
