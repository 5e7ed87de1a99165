package views

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"
)

func in(code string) context.Context { return WithLanguage(context.Background(), code) }

// plain shows the spaces that do not break as others.
func plain(s string) string { return strings.ReplaceAll(s, "\u00a0", " ") }

func TestNumbers(t *testing.T) {
	t.Parallel()
	number := func(n int64) func(context.Context) string {
		return func(ctx context.Context) string { return Number(ctx, n) }
	}
	short := func(n int64) func(context.Context) string {
		return func(ctx context.Context) string { return Short(ctx, n) }
	}
	bytes := func(n int64) func(context.Context) string {
		return func(ctx context.Context) string { return Bytes(ctx, n) }
	}
	percent := func(f float64) func(context.Context) string {
		return func(ctx context.Context) string { return Percent(ctx, f) }
	}
	decimal := func(f float64, d int) func(context.Context) string {
		return func(ctx context.Context) string { return Decimal(ctx, f, d) }
	}
	took := func(d time.Duration) func(context.Context) string {
		return func(ctx context.Context) string { return Duration(ctx, d) }
	}
	cases := []struct {
		write  func(context.Context) string
		en, es string
	}{
		{number(0), "0", "0"},
		{number(-7), "-7", "-7"},
		{number(1_234_567), "1,234,567", "1.234.567"},
		{number(math.MaxInt64), "9,223,372,036,854,775,807", "9.223.372.036.854.775.807"},
		{decimal(1234.5, 1), "1,234.5", "1.234,5"},
		{decimal(2, 1), "2", "2"},
		{percent(0), "0%", "0 %"},
		{percent(0.0001), "1%", "1 %"},
		{percent(0.424), "42%", "42 %"},
		{percent(0.9999), "99%", "99 %"},
		{percent(1), "100%", "100 %"},
		{percent(1.2), "100%", "100 %"},
		{percent(-1), "0%", "0 %"},
		{percent(math.NaN()), "0%", "0 %"},
		{short(0), "0", "0"},
		{short(9_999), "9,999", "9.999"},
		{short(10_000), "10 k", "10 k"},
		{short(7_868_400), "7.87 M", "7,87 M"},
		{short(999_499), "999 k", "999 k"},
		{short(999_500), "1 M", "1 M"},
		{bytes(0), "0 B", "0 B"},
		{bytes(999), "999 B", "999 B"},
		{bytes(1_000), "1 kB", "1 kB"},
		{bytes(618_400_000), "618 MB", "618 MB"},
		{bytes(1_073_741_824), "1.07 GB", "1,07 GB"},
		{bytes(99_960_000), "100 MB", "100 MB"},
		{bytes(math.MaxInt64), "9,223 PB", "9.223 PB"},
		{took(-time.Second), "0 s", "0 s"},
		{took(0), "0 s", "0 s"},
		{took(1240 * time.Millisecond), "1.2 s", "1,2 s"},
		{took(9949 * time.Millisecond), "9.9 s", "9,9 s"},
		{took(9990 * time.Millisecond), "10 s", "10 s"},
		{took(42 * time.Second), "42 s", "42 s"},
		{took(59600 * time.Millisecond), "1 min", "1 min"},
		{took(70 * time.Second), "1 min 10 s", "1 min 10 s"},
		{took(2*time.Hour + 5*time.Minute + 9*time.Second), "2 h 5 min", "2 h 5 min"},
		{took(2*time.Hour + 9*time.Second), "2 h", "2 h"},
		{took(2000*24*time.Hour + 3*time.Hour), "2,000 d 3 h", "2.000 d 3 h"},
	}
	for _, c := range cases {
		if got := plain(c.write(in("en"))); got != c.en {
			t.Errorf("in English %q, want %q", got, c.en)
		}
		if got := plain(c.write(in("es"))); got != c.es {
			t.Errorf("in Spanish %q, want %q", got, c.es)
		}
	}
}

func TestClock(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-time.Second: "00:00", 88 * time.Second: "01:28", 3599 * time.Second: "59:59", 3600 * time.Second: "1:00:00", 3688*time.Second + 999*time.Millisecond: "1:01:28",
	} {
		if got := Clock(d); got != want {
			t.Errorf("Clock(%s) = %s, want %s", d, got, want)
		}
	}
}

func TestTimes(t *testing.T) {
	t.Parallel()
	now := time.Now()
	const slack = 20 * time.Second // for a test that stands still
	for _, c := range []struct {
		at     time.Time
		write  func(context.Context, time.Time) string
		en, es string
	}{
		{now.Add(time.Hour), Ago, "just now", "ahora mismo"},
		{now, Ago, "just now", "ahora mismo"},
		{now.Add(-time.Minute), Ago, "1 minute ago", "hace 1 minuto"},
		{now.Add(-12 * time.Minute), Ago, "12 minutes ago", "hace 12 minutos"},
		{now.Add(-60 * time.Minute), Ago, "1 hour ago", "hace 1 hora"},
		{now.Add(-47 * time.Hour), Ago, "1 day ago", "hace 1 día"},
		{now.Add(-29 * 24 * time.Hour), Ago, "29 days ago", "hace 29 días"},
		{time.Date(2020, 2, 3, 4, 5, 6, 7, time.UTC), Ago, "3 Feb 2020", "3 feb 2020"},
		{now.Add(-time.Hour), In, "in 0 minutes", "en 0 minutos"},
		{now.Add(time.Minute + slack), In, "in 1 minute", "en 1 minuto"},
		{now.Add(24*time.Hour + slack), In, "in 24 hours", "en 24 horas"},
		{now.Add(7*24*time.Hour - slack), In, "in 7 days", "en 7 días"},
	} {
		if got := c.write(in("en"), c.at); got != c.en {
			t.Errorf("in English %q, want %q", got, c.en)
		}
		if got := c.write(in("es"), c.at); got != c.es {
			t.Errorf("in Spanish %q, want %q", got, c.es)
		}
	}
}

func TestBrowser(t *testing.T) {
	t.Parallel()
	const webkit = "AppleWebKit/537.36 (KHTML, like Gecko) "
	for agent, want := range map[string]string{
		"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0":                                "Firefox · Linux",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) " + webkit + "Chrome/140.0.0.0 Safari/537.36 Edg/140":        "Edge · Windows",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) " + webkit + "Chrome/140.0.0.0 Safari/537.36":                "Chrome · Windows",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) " + webkit + "Version/18.0 Mobile Safari/604.1": "Safari · iPhone",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) " + webkit + "Version/18.0 Safari/605.1":               "Safari · macOS",
		"Mozilla/5.0 (Linux; Android 15) " + webkit + "Chrome/140.0.0.0 Mobile Safari/537.36":                   "Chrome · Android",
		"curl/8.1": "curl",
		"":         "Unknown browser",
	} {
		if got := Browser(in("en"), agent); got != want {
			t.Errorf("%q is %q, want %q", agent, got, want)
		}
	}
}
