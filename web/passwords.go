package web

import (
	"context"
	"fmt"

	"github.com/alexedwards/argon2id"
)

// The cost of a password: about a twentieth of a second, and at most 64 MiB of memory for all that are checked at once.
const (
	hashMemory = 32 * 1024 // KiB
	hashRounds = 2
	hashSlots  = 2
)

// passwords hashes and checks passwords, a few at a time: that many requests cannot take the machine's memory. It is
// safe for concurrent use.
type passwords struct {
	params *argon2id.Params
	slots  chan struct{}
	nobody string // the hash that is checked for someone who is not there, to take as long
}

func newPasswords() (*passwords, error) {
	p := &passwords{
		params: &argon2id.Params{Memory: hashMemory, Iterations: hashRounds, Parallelism: 1, SaltLength: 16, KeyLength: 32},
		slots:  make(chan struct{}, hashSlots),
	}
	var err error
	if p.nobody, err = argon2id.CreateHash("nobody", p.params); err != nil {
		return nil, fmt.Errorf("hash a password: %w", err)
	}
	return p, nil
}

// hash waits for its turn.
func (p *passwords) hash(ctx context.Context, password string) (string, error) {
	if err := p.take(ctx); err != nil {
		return "", err
	}
	defer p.give()
	hash, err := argon2id.CreateHash(password, p.params)
	if err != nil {
		return "", fmt.Errorf("hash a password: %w", err)
	}
	return hash, nil
}

// check tells whether a password is right. An empty hash is the one of nobody: no password is right, and it takes as
// long to say so. It waits for its turn.
func (p *passwords) check(ctx context.Context, password, hash string) (bool, error) {
	against := hash
	if hash == "" {
		against = p.nobody
	}
	if err := p.take(ctx); err != nil {
		return false, err
	}
	defer p.give()
	right, err := argon2id.ComparePasswordAndHash(password, against)
	if err != nil {
		return false, fmt.Errorf("check a password: %w", err)
	}
	return right && hash != "", nil
}

func (p *passwords) take(ctx context.Context) error {
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait to check a password: %w", context.Cause(ctx))
	}
}

func (p *passwords) give() { <-p.slots }
