-- +goose Up

ALTER TABLE background_tasks
	ADD fruitless int NOT NULL DEFAULT 0; -- workers in a row that died with it before they got anything done
