package dsn

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// userTimeout is how long what was sent may stay unacknowledged, in milliseconds. Without it the kernel tries for a
// quarter of an hour.
const userTimeout = 25_000

// setUserTimeout is for net.Dialer.Control.
// https://man7.org/linux/man-pages/man7/tcp.7.html (TCP_USER_TIMEOUT)
func setUserTimeout(network, _ string, c syscall.RawConn) error {
	if network == "unix" {
		return nil
	}
	var err error
	if e := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, userTimeout)
	}); e != nil {
		return e
	}
	return err
}
