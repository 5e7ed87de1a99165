-- +goose Up

ALTER TABLE background_tasks
	ADD verify text NOT NULL DEFAULT 'sample' CHECK (verify IN ('sample', 'contents')); -- how much of what rows hold is compared
