// Package report has the values in which a clone tells what it does, and what became of it: progress, events, reasons of
// a refusal, the verdict. They are plain, they carry JSON tags, and nothing here knows how they come about.
package report
