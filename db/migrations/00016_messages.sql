-- +goose Up

-- What a line of the log says, as a code and parameters, or as a string. Lines from before have their English text alone.
ALTER TABLE task_events
	ADD   message jsonb,
	ALTER text SET DEFAULT '';
