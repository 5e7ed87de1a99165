package chaos

import (
	"os/exec"
	"sync"
)

// hasWorkers tells whether the program has workers beside the web process, and so takes a job over from a dead one.
var hasWorkers = sync.OnceValue(func() bool { return exec.Command(calco, "worker", "--help").Run() == nil })

// webArgs are how the web process is run. A program without workers works in it too.
func webArgs(state string) []string {
	args := []string{"serve", "--listen", "127.0.0.1:0", "--database-url", state}
	if !hasWorkers() {
		return append(args, "--jobs", "2")
	}
	return append(args, "--workers", "0")
}

// workerArgs are how a worker is run. Its parts are small, so that tables have several.
func workerArgs(state string) []string {
	return []string{"worker", "--database-url", state, "--workers", "2", "--part-size", "1MB", "--give-up-after", "5m"}
}
