package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// RunningURL returns the connection string for a database of the server that another process runs in a folder: the one
// for which Start says ErrInUse. It is true until that process stops its server.
func RunningURL(dir, database string) (string, error) {
	c := &cluster{dir: dir}
	if err := c.readRunning(); err != nil {
		return "", fmt.Errorf("find the server that runs in %s: %w", dir, err)
	}
	return c.url(database), nil
}

// readRunning reads where the server listens from the file that it keeps as long as it runs.
// https://www.postgresql.org/docs/current/storage-file-layout.html
func (c *cluster) readRunning() error {
	text, err := os.ReadFile(filepath.Join(c.data(), "postmaster.pid"))
	if err != nil {
		return err
	}
	lines := strings.Split(string(text), "\n")
	const port, socketDir = 3, 4
	if len(lines) <= socketDir {
		return errors.New("it is still starting")
	}
	if c.port, err = strconv.Atoi(strings.TrimSpace(lines[port])); err != nil {
		return err
	}
	c.socketDir = strings.TrimSpace(lines[socketDir])
	c.loopback = c.socketDir == ""
	return c.readPassword()
}
