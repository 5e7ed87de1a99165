package cloner

import (
	"context"
	"errors"

	"calco/cloner/dsn"
	"calco/cloner/internal/marks"
	"calco/cloner/internal/preflight"
	"calco/cloner/internal/safely"
	"calco/cloner/internal/session"
	"calco/cloner/report"
)

// Inspect looks at a database without changing it, on one connection. It blocks for some seconds where nothing
// answers. Hosts are those that the URL may lead to, nil any. A database that cannot be reached is a *report.RefusedError, whose
// reasons are of no side.
func Inspect(ctx context.Context, u dsn.URL, hosts *dsn.Hosts) (i report.Inspection, err error) {
	err = safely.Do(func() (err error) {
		i, err = preflight.Inspect(ctx, u, hosts)
		return err
	})
	return i, err
}

// PreviewClean looks at what a clone with Clean would drop from the target. It changes
// nothing. A target that cannot be reached is a *report.RefusedError.
func PreviewClean(ctx context.Context, spec Spec) (p report.CleanPreview, err error) {
	err = safely.Do(func() (err error) {
		p, err = previewClean(ctx, spec)
		return err
	})
	return p, err
}

func previewClean(ctx context.Context, spec Spec) (report.CleanPreview, error) {
	spec, err := spec.normalize()
	if err != nil {
		return report.CleanPreview{}, err
	}
	target, reason, err := session.Connect(ctx, spec.target(marks.Job{ID: spec.Job, Term: spec.Term}), 0, "")
	if err != nil {
		return report.CleanPreview{}, err
	}
	if reason != nil {
		return report.CleanPreview{}, report.Refuse(*reason)
	}
	defer target.Control.Close()
	use, err := marks.ReadUse(ctx, target.Control, "")
	if err != nil {
		return report.CleanPreview{}, err
	}
	if use.Filled || use.Read {
		return report.CleanPreview{}, report.Refuse(use.Reason(report.Target, target))
	}
	if reasons, err := marks.CheckForeign(ctx, target); err != nil || len(reasons) > 0 {
		return report.CleanPreview{}, errors.Join(err, report.Refuse(reasons...))
	}
	scope := spec.scope(target)
	return scope.Preview(ctx)
}

// Preflight looks for what is against a clone, before anybody starts it. It only reads: it takes no lock, writes nothing, and
// needs no more than to read on either side. What it cannot tell by that is among the warnings. The error is nil whatever is
// found; it is for a spec that means nothing, or a server that fails to answer.
func Preflight(ctx context.Context, spec Spec) (p report.Preflight, err error) {
	err = safely.Do(func() (err error) {
		p, err = checks(ctx, spec)
		return err
	})
	return p, err
}

func checks(ctx context.Context, spec Spec) (report.Preflight, error) {
	p := report.Preflight{Schemas: spec.Schemas, Reasons: []report.Reason{}, Warnings: []report.Text{}}
	spec, err := spec.normalize()
	if err != nil {
		return p, err
	}
	job := marks.Job{ID: spec.Job, Term: spec.Term}
	source, reason, err := session.Connect(ctx, spec.source(job), 0, "")
	if err != nil {
		return p, err
	}
	if reason != nil {
		p.Reasons = append(p.Reasons, *reason)
	} else {
		defer source.Control.Close()
		p.Source = source.Endpoint()
	}
	target, reason, err := session.Connect(ctx, spec.target(job), 0, "")
	if err != nil {
		return p, err
	}
	if reason != nil {
		p.Reasons = append(p.Reasons, *reason)
	} else {
		defer target.Control.Close()
		p.Target = target.Endpoint()
	}
	if source == nil || target == nil {
		return p, nil
	}
	wish := marks.Wish{Job: job, Schemas: spec.Schemas, Resume: spec.Resume, Adopt: spec.adopt}
	found, err := preflight.Check(ctx, preflight.Input{Source: source, Target: target, Scope: spec.scope(target), Wish: wish})
	for _, r := range found.Reasons {
		if r.Code != report.ReasonNotConfirmed { // that is asked for when the clone is started
			p.Reasons = append(p.Reasons, r)
		}
	}
	p.Warnings = append(p.Warnings, found.Warnings...)
	return p, err
}
