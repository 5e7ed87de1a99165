//go:build !linux

package dsn

import "syscall"

// setUserTimeout does nothing where there is no such timeout: the keepalive notices a dead peer too.
func setUserTimeout(string, string, syscall.RawConn) error { return nil }
