package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/term"

	"calco/cloner"
	"calco/cloner/dsn"
	"calco/cloner/report"
	"calco/views"
)

type cloneCommand struct {
	Source dsn.URL  `required:"" env:"CALCO_SOURCE" placeholder:"URL" help:"Database to clone: postgres://user:password@host:5432/database. In the environment it stays out of process lists."`
	Target dsn.URL  `required:"" env:"CALCO_TARGET" placeholder:"URL" help:"Database to clone into: an empty one, or see --clean."`
	Schema []string `env:"CALCO_SCHEMA" placeholder:"NAME" sep:"none" help:"Clone only this schema and what it depends on. May be given more than once."`
	Clean  bool     `env:"CALCO_CLEAN" help:"Drop what the target holds first, and nothing that comes to it meanwhile. Asks for the database's name unless --yes is given."`
	Yes    bool     `env:"CALCO_YES" help:"Do not ask before dropping: what the target holds at the beginning is printed and may go."`
	End    bool     `name:"end-blockers" env:"CALCO_END_BLOCKERS" help:"With --clean: end sessions of others that use what is to be dropped. Without it the clone waits for them."`
	Resume bool     `env:"CALCO_RESUME" help:"Go on with what a clone that ended early has left on the target."`
	Verify string   `env:"CALCO_VERIFY" enum:"sample,contents" default:"sample" placeholder:"HOW" help:"What is compared beside the number of rows: what a sample of them holds (sample), or every row (contents), which takes longer and keeps the source's snapshot longer."`
	Lanes  int      `env:"CALCO_LANES" default:"4" placeholder:"N" help:"How many tables to copy at a time (${default})."`
	JSON   bool     `env:"CALCO_JSON" help:"Print the report as one JSON object."`

	engineFlags
}

func (c *cloneCommand) Run(ctx context.Context, tty terminal) error {
	spec, err := c.spec()
	if err != nil {
		return err
	}
	if c.Clean {
		confirmed, refused, err := c.confirm(ctx, spec, tty)
		if err != nil {
			return err
		}
		if refused != nil {
			return c.conclude(*refused, tty)
		}
		spec.Confirmed = confirmed
	}
	return c.conclude(cloneInTerminal(ctx, spec, cloner.Options{Patience: c.GiveUpAfter}, tty), tty)
}

// spec is what the flags ask for. To go on with a job, it is the target that says which.
func (c *cloneCommand) spec() (cloner.Spec, error) {
	spec := cloner.Spec{
		Job: cloner.NewJob(), Source: c.Source, Target: c.Target, Schemas: c.Schema, Clean: c.Clean, EndBlockers: c.End, Lanes: c.Lanes, PartSize: int64(c.PartSize), Verify: report.Verify(c.Verify),
	}
	if c.Resume {
		spec.Job, spec.Resume = "", true
	}
	switch err := c.check(); {
	case err != nil:
		return spec, err
	case c.Lanes == 0:
		return spec, usageError{errors.New("0 lanes carry nothing: choose at least 1")}
	case c.Resume && c.Clean:
		return spec, usageError{errors.New("--resume goes on with what is on the target, and --clean drops it: choose one of them")}
	}
	if err := spec.Check(); err != nil {
		return spec, usageError{err}
	}
	return spec, nil
}

// conclude prints the report and turns its status into the exit code.
func (c *cloneCommand) conclude(report report.Report, tty terminal) error {
	var err error
	if c.JSON {
		enc := json.NewEncoder(tty.out)
		enc.SetEscapeHTML(false)
		err = enc.Encode(views.WithSentences(report))
	} else {
		err = printReport(tty.out, report)
	}
	if err != nil {
		return fmt.Errorf("print the report: %w", err)
	}
	return exitError(exitCode(report.Status))
}

// cloneInTerminal clones, shows how far it is, and cancels at a Ctrl-C.
func cloneInTerminal(ctx context.Context, spec cloner.Spec, o cloner.Options, tty terminal) report.Report {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)

	o.Meter = &cloner.Meter{}
	done := make(chan report.Report, 1)
	go func() {
		report, _ := cloner.Clone(ctx, spec, o) // the report has the error
		done <- report
	}()
	watch := newWatch(tty.err, o.Meter)
	defer watch.stop()
	fmt.Fprintf(tty.err, "Cloning %s into %s\n", plain(spec.Source.String()), plain(spec.Target.String()))
	for interrupts := 0; ; {
		select {
		case report := <-done:
			return report
		case <-watch.tick():
			watch.show()
		case <-signals:
			interrupts++
			if interrupts > 1 {
				return abandoned(spec)
			}
			watch.clear()
			fmt.Fprintln(tty.err, "Cancelling. Press Ctrl-C again to stop waiting.")
			cancel(report.ErrCancelled)
		}
	}
}

// abandoned is the report of a cancel that nobody waited for.
func abandoned(spec cloner.Spec) report.Report {
	name := "calco/"
	if spec.Job != "" { // a clone that goes on has the name of the one before
		name += spec.Job + "/"
	}
	return report.Report{
		Status: report.StatusCancelled, Error: report.ErrCancelled.Error(),
		Warnings: []report.Text{report.Said("Not waited for the end: statements of this clone may still run on both servers for a while. In pg_stat_activity their application_name begins with " + name + ".")},
	}
}

// confirm shows what would be dropped, and wants the database's name typed unless --yes was given or there is nothing. What
// it has shown is what may be dropped. A report is the outcome of a clone that must not begin.
func (c *cloneCommand) confirm(ctx context.Context, spec cloner.Spec, tty terminal) (*report.Confirmation, *report.Report, error) {
	preview, err := cloner.PreviewClean(ctx, spec)
	var refused *report.RefusedError
	if errors.As(err, &refused) {
		return nil, &report.Report{Status: report.StatusRefused, Reasons: refused.Reasons}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	if preview.Objects == 0 {
		return &preview.Confirmation, nil, nil
	}
	ask := !c.Yes
	if ask && !term.IsTerminal(int(tty.in.Fd())) {
		return nil, nil, usageError{errors.New("--clean would drop what the target holds, and there is no terminal to ask: add --yes to confirm")}
	}
	showPreview(tty.err, spec, preview)
	if !ask {
		return &preview.Confirmation, nil, nil
	}
	fmt.Fprintf(tty.err, "Type the database's name (%s) to go on: ", plain(preview.Database))
	typed, err := bufio.NewReader(tty.in).ReadString('\n')
	if err == nil && strings.TrimRight(typed, "\r\n") == preview.Database {
		return &preview.Confirmation, nil, nil
	}
	return nil, &report.Report{Status: report.StatusRefused, Reasons: []report.Reason{{
		Code: report.ReasonNotConfirmed, Side: report.Target,
		Text: report.Said("The target's name was not typed, so nothing was dropped and nothing was copied."),
		Hint: report.Said("Type it exactly as it is shown, or add --yes."),
	}}}, nil
}

// showPreview prints what clean drops.
func showPreview(w io.Writer, spec cloner.Spec, preview report.CleanPreview) {
	fmt.Fprintf(w, "This drops %d objects from %s: %d tables with about %s rows, %s in all.\n",
		preview.Objects, plain(spec.Target.String()), preview.Tables, grouped(preview.Rows), bytesText(preview.Bytes))
	for _, name := range preview.Names[:min(len(preview.Names), 10)] {
		fmt.Fprintf(w, "  %s\n", plain(name))
	}
	if more := preview.Objects - 10; more > 0 {
		fmt.Fprintf(w, "  and %d more\n", more)
	}
	fmt.Fprintln(w, "Rows that are changed or added in them until then are lost too. What else comes to the target is not dropped: then nothing more is.")
}
