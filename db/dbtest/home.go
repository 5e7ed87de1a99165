package dbtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"calco/db/embedded"
)

// home is the folder of a test server, and a watchman who clears it away when this process is gone.
//
// A test process that ends by Ctrl-C, by a timeout or by os.Exit runs no Cleanup, and its server would stay for ever.
type home struct {
	dir     string
	server  *embedded.Server // nil until it is started
	watch   *exec.Cmd
	release io.Closer // the end of the pipe that keeps the watchman waiting
}

// watchman waits for the end of its input, ends the server of the folder $1, if one runs, and removes the folder.
const watchman = `
cat >/dev/null
if read -r pid <"$1/data/postmaster.pid"; then
	kill -QUIT "$pid"
	while kill -0 "$pid"; do sleep 0.1; done
fi
rm -rf "$1"
`

// newHome makes a folder that the user who runs the server can pass through, whoever that is.
func newHome() (*home, error) {
	dir, err := os.MkdirTemp(memory(), "calco-test-")
	if err != nil {
		return nil, err
	}
	h := &home{dir: dir, watch: exec.Command("/bin/sh", "-c", watchman, "sh", dir)} //nolint:noctx // it outlives us
	h.watch.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if h.release, err = h.watch.StdinPipe(); err == nil {
		err = h.watch.Start()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("watch over %s: %w", dir, err), os.RemoveAll(dir))
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}

// close stops the server and waits until the folder is gone.
func (h *home) close() error {
	var stopped error
	if h.server != nil {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		stopped = h.server.Stop(ctx)
	}
	return errors.Join(stopped, h.release.Close(), h.watch.Wait())
}
