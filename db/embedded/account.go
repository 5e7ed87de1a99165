package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is the operating system user that runs the server. PostgreSQL refuses root, so root hands the server to
// another one; everybody else runs it as themselves.
type account struct {
	name string
	cred *syscall.Credential // nil: the caller itself
}

// accountFor returns the owner of the cluster in data or, when there is none yet, the user who will own it.
func accountFor(data string) (account, error) {
	if os.Geteuid() != 0 {
		return account{}, nil
	}
	if info, err := os.Stat(data); err == nil {
		stat := info.Sys().(*syscall.Stat_t)
		return account{
			name: "with the id " + strconv.FormatUint(uint64(stat.Uid), 10),
			cred: &syscall.Credential{Uid: stat.Uid, Gid: stat.Gid},
		}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return account{}, fmt.Errorf("read the id of user %s: %w", name, err)
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return account{}, fmt.Errorf("read the group of user %s: %w", name, err)
		}
		return account{name: name, cred: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
	}
	return account{}, errors.New("PostgreSQL refuses to run as root, and there is neither a user postgres nor a user nobody")
}

// own gives path to the account.
func (a account) own(path string) error {
	if a.cred == nil {
		return nil
	}
	return os.Chown(path, int(a.cred.Uid), int(a.cred.Gid))
}

// mayEnter proves that the account can run program and enter dir, by doing it. Otherwise the error names what is in
// the way.
func (a account) mayEnter(ctx context.Context, program, dir string) error {
	if a.cred == nil {
		return nil
	}
	try := func(dir string) error {
		cmd := exec.CommandContext(ctx, program, "--version")
		cmd.Dir = dir
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: a.cred}
		return cmd.Run()
	}
	if err := try("/"); err != nil {
		return fmt.Errorf("run %s as the user %s: %w", program, a.name, err)
	}
	if try(dir) == nil {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	first := dir // the outermost folder that is closed
	for d := filepath.Dir(dir); d != "/"; d = filepath.Dir(d) {
		if try(d) != nil {
			first = d
		}
	}
	return fmt.Errorf("PostgreSQL refuses to run as root, and the user %s, who runs it instead, cannot enter %s; "+
		"open it with \"chmod o+x\", or choose another folder, such as %s", a.name, first, rootDir)
}
