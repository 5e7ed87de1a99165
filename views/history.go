package views

import (
	"context"
	"net/url"
)

// HistoryStates are the states that are stored, which can be filtered by.
var HistoryStates = []string{"queued", "running", "completed", "differences", "failed", "cancelled", "refused"}

func (h HistoryPageProps) filtered() bool { return h.Status != "" || h.Database != 0 }

// ifAny leaves out what would only be a zero.
func ifAny(n int64, text string) string {
	if n == 0 {
		return "–"
	}
	return text
}

func tookText(ctx context.Context, r HistoryRow) string {
	return ifAny(int64(r.Duration), Duration(ctx, r.Duration))
}

// first is the first page with the same filter.
func (h HistoryPageProps) first() string {
	q := url.Values{}
	if h.Status != "" {
		q.Set("state", h.Status)
	}
	if h.Database != 0 {
		q.Set("database", idText(h.Database))
	}
	if len(q) == 0 {
		return "/history"
	}
	return "/history?" + q.Encode()
}
