package session

import (
	"context"
	"fmt"
	"time"
)

// How often a side is probed, and how long an answer may take.
const (
	ProbeEvery    = 5 * time.Second
	ProbePatience = 15 * time.Second
)

// Ping wants an answer soon.
func (s *Session) Ping(ctx context.Context) error {
	return s.Soon(ctx, func(ctx context.Context) error { return s.Exec(ctx, "SELECT 1") })
}

// Soon asks something that is answered at once by a server that lives.
func (s *Session) Soon(ctx context.Context, ask func(context.Context) error) error {
	asking, cancel := context.WithTimeout(ctx, ProbePatience)
	defer cancel()
	err := ask(asking)
	if err != nil && asking.Err() != nil && ctx.Err() == nil {
		return &LostError{Side: s.Side, Err: fmt.Errorf("no answer for %v", ProbePatience)}
	}
	return err
}
