// Command calco clones a PostgreSQL database into another one, and proves it. The
// commands only wire: the work is done in package cloner.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	"github.com/alecthomas/kong"

	"calco/cloner/report"
)

// version is set when a release is built.
var version = ""

// Exit codes. A script can rely on them.
const (
	exitCompleted   = 0
	exitFailed      = 1
	exitUsage       = 2
	exitDifferences = 3
	exitRefused     = 4
	exitCancelled   = 130
)

type commands struct {
	Clone   cloneCommand   `cmd:"" help:"Clone a database into another one and compare the two."`
	Check   checkCommand   `cmd:"" help:"Find out what is in the way of a clone, without changing anything."`
	Demo    demoCommand    `cmd:"" help:"Try the web app, with a sample database on a private server."`
	Serve   serveCommand   `cmd:"" help:"Serve the web app, and run its clones."`
	Worker  workerCommand  `cmd:"" help:"Run clones of a web app that another process serves, on this machine or on another one."`
	User    userCommand    `cmd:"" help:"Let people into the web app."`
	Migrate migrateCommand `cmd:"" help:"Bring the state database up to date, which serve does by itself."`
	Version versionCommand `cmd:"" help:"Print the version."`
}

// terminal is what a command reads from and writes to.
type terminal struct {
	in  *os.File
	out io.Writer // results
	err *os.File  // progress, questions, errors
}

// usageError is a command line that cannot be meant.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// exitError ends the program with a code; what there was to say has been said.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit %d", int(e)) }

func main() {
	os.Exit(run(context.Background(), os.Args[1:], terminal{in: os.Stdin, out: os.Stdout, err: os.Stderr}))
}

// run is the program: it returns its exit code.
func run(ctx context.Context, args []string, tty terminal) int {
	exited := -1 // by --help, which ends the parser and not the program
	parser, err := kong.New(&commands{},
		kong.Name("calco"),
		kong.Description("Calco clones a PostgreSQL database into another one, and says it is done only when the two were compared."),
		kong.UsageOnError(),
		kong.Writers(tty.out, tty.err),
		kong.Exit(func(code int) { exited = code }),
		kong.ConfigureHelp(kong.HelpOptions{WrapUpperBound: 100}),
	)
	if err != nil {
		fmt.Fprintln(tty.err, "calco:", err)
		return exitFailed
	}
	command, err := parser.Parse(args)
	if exited >= 0 {
		return exited
	}
	if err == nil {
		command.BindTo(ctx, (*context.Context)(nil))
		err = command.Run(tty)
	} else {
		err = usageError{err}
	}
	var code exitError
	var usage usageError
	switch {
	case err == nil:
		return exitCompleted
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &usage):
		fmt.Fprintf(tty.err, "calco: %v\nTry calco %s--help.\n", usage.error, named(args))
		return exitUsage
	}
	fmt.Fprintln(tty.err, "calco:", err)
	return exitFailed
}

// named is the command that a command line begins with, and a space; "" where it begins with none.
func named(args []string) string {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return ""
	}
	return plain(args[0]) + " "
}

// exitCode is the outcome of a clone as a script sees it.
func exitCode(s report.Status) int {
	switch s {
	case report.StatusCompleted:
		return exitCompleted
	case report.StatusDifferences:
		return exitDifferences
	case report.StatusRefused:
		return exitRefused
	case report.StatusCancelled:
		return exitCancelled
	}
	return exitFailed
}

type versionCommand struct{}

func (versionCommand) Run(tty terminal) error {
	_, err := fmt.Fprintln(tty.out, "calco", versionName())
	return err
}

func versionName() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
