package cloner

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"testing"

	"calco/cloner/dsn"
	"calco/cloner/report"
	"calco/db/dbtest"
)

// TestBusy starts other clones with the databases of one that is stuck in the middle.
func TestBusy(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	source, target, third := dbtest.Database(t), dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, stageSQL)
	spec := Spec{Source: dsn.URL(source), Target: dsn.URL(target), Lanes: 1, Job: NewJob()}
	st := stages[slices.IndexFunc(stages, func(st stage) bool { return st.name == "a slow index" })]
	alias := dsn.URL(changed(t, source, func(u *url.URL) { u.Host = "localhost:" + u.Port() }))
	_, other := role(t, source, "SUPERUSER")
	isSource := func(u dsn.URL) want {
		return want{code: report.ReasonBusy, side: report.Target, text: fmt.Sprintf("The target %s is the source of a clone that is under way.", u)}
	}
	isTarget := want{code: report.ReasonBusy, side: report.Source, text: fmt.Sprintf("The source %s is the target of a clone that is under way.", dsn.URL(target))}
	result, err := st.play(t, spec, func(_ context.CancelCauseFunc, release func()) {
		for _, u := range []dsn.URL{dsn.URL(source), alias, dsn.URL(other)} {
			refusesUntouched(t, Spec{Source: dsn.URL(third), Target: u, Clean: true}, source, isSource(u))
		}
		mustRefuse(t, Spec{Source: dsn.URL(target), Target: dsn.URL(third)}, isTarget)
		mustRefuse(t, Spec{Source: dsn.URL(target), Target: dsn.URL(source), Clean: true}, isTarget, isSource(dsn.URL(source)))
		// What is wrong with both is not said instead of what is wrong with their choice.
		for _, u := range []string{source, target} {
			mustRefuse(t, Spec{Source: dsn.URL(u), Target: dsn.URL(u), Clean: true}, want{
				code: report.ReasonSameDatabase, side: report.Target, text: fmt.Sprintf("Source and target are the same database, %s.", dsn.URL(u)),
			})
		}
		for u, text := range map[string]string{
			source: isSource(dsn.URL(source)).text,
			target: fmt.Sprintf("Another clone into %s is under way.", dsn.URL(target)),
		} {
			_, err := PreviewClean(t.Context(), Spec{Target: dsn.URL(u)})
			var refused *report.RefusedError
			if !errors.As(err, &refused) || len(refused.Reasons) != 1 || refused.Reasons[0].Code != report.ReasonBusy || refused.Reasons[0].Text.String() != text {
				t.Errorf("preview of %s: %v, want %q", dsn.URL(u), err, text)
			}
		}
		mustComplete(t, Spec{Source: dsn.URL(source), Target: dsn.URL(third)}) // two may read one source
		release()
	})
	if err != nil || result.Status != report.StatusCompleted {
		t.Fatalf("the first clone: %s, %v", result.Status, err)
	}
	// When it is over, each is free for either.
	mustComplete(t, Spec{Source: dsn.URL(target), Target: dsn.URL(source), Clean: true})
}

// TestBusySourceOfCancelled frees the source of a clone that was cancelled.
func TestBusySourceOfCancelled(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, stageSQL)
	spec := Spec{Source: dsn.URL(source), Target: dsn.URL(target), Job: NewJob()}
	st := stages[slices.IndexFunc(stages, func(st stage) bool { return st.name == "a slow index" })]
	report, err := st.play(t, spec, func(cancel context.CancelCauseFunc, _ func()) { cancel(report.ErrCancelled) })
	isCancelled(t, spec, report, err)
	mustComplete(t, Spec{Source: dsn.URL(dbtest.Database(t)), Target: dsn.URL(source), Clean: true})
}
