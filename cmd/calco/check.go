package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"calco/cloner"
	"calco/cloner/dsn"
	"calco/cloner/report"
	"calco/views"
)

type checkCommand struct {
	Source dsn.URL  `required:"" env:"CALCO_SOURCE" placeholder:"URL" help:"Database to clone: postgres://user:password@host:5432/database. In the environment it stays out of process lists."`
	Target dsn.URL  `required:"" env:"CALCO_TARGET" placeholder:"URL" help:"Database to clone into."`
	Schema []string `env:"CALCO_SCHEMA" placeholder:"NAME" sep:"none" help:"Only this schema and what it depends on is to be cloned. May be given more than once."`
	Clean  bool     `env:"CALCO_CLEAN" help:"What the target holds is to be dropped first."`
	JSON   bool     `env:"CALCO_JSON" help:"Print what was found as one JSON object."`
}

// Run looks for what is in the way of a clone. It only reads, on both sides.
func (c *checkCommand) Run(ctx context.Context, tty terminal) error {
	spec := cloner.Spec{Source: c.Source, Target: c.Target, Schemas: c.Schema, Clean: c.Clean}
	if err := spec.Check(); err != nil {
		return usageError{err}
	}
	found, err := cloner.Preflight(ctx, spec)
	if err != nil {
		return err
	}
	if c.JSON {
		enc := json.NewEncoder(tty.out)
		enc.SetEscapeHTML(false)
		err = enc.Encode(views.PreflightWithSentences(found))
	} else {
		err = printPreflight(tty.out, found)
	}
	if err != nil {
		return fmt.Errorf("print what was found: %w", err)
	}
	if len(found.Reasons) > 0 {
		return exitError(exitRefused)
	}
	return nil
}

// printPreflight writes for people what is in the way.
func printPreflight(out io.Writer, p report.Preflight) error {
	w := bufio.NewWriter(out)
	if len(p.Reasons) == 0 {
		fmt.Fprintln(w, "Nothing is in the way.")
	} else {
		fmt.Fprintln(w, "A clone would be refused.")
	}
	printReasons(w, p.Reasons)
	section(w, "Worth knowing", sayAll(p.Warnings))
	return w.Flush()
}
