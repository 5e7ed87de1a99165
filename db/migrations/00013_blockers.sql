-- +goose Up

ALTER TABLE background_tasks
	ADD end_blockers boolean NOT NULL DEFAULT false CHECK (clean OR NOT end_blockers); -- end who holds locks on what clean drops
