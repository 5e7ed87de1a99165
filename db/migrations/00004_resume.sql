-- +goose Up

-- A job goes on when its worker is gone: it is queued again, with a higher term.
ALTER TABLE background_tasks
	ADD touched boolean NOT NULL DEFAULT false, -- its target: a life of the job has begun to change that, or may have
	ADD CHECK (status <> 'queued' OR worker IS NULL AND cancel_requested_at IS NULL);

ALTER TABLE task_events
	DROP CONSTRAINT task_events_kind_check,
	ADD  CONSTRAINT task_events_kind_check CHECK (kind IN ('phase_begun', 'phase_ended', 'trouble', 'warning', 'retry', 'resumed'));
