package views

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"golang.org/x/text/number"
)

// Number writes a whole number the way of the language: 1,234,567 or 1.234.567.
func Number(ctx context.Context, n int64) string {
	return tongueOf(ctx).numbers.Sprint(number.Decimal(n))
}

// Decimal writes a number with at most so many digits after the point, or comma.
func Decimal(ctx context.Context, f float64, digits int) string {
	return tongueOf(ctx).numbers.Sprint(number.Decimal(f, number.MaxFractionDigits(digits)))
}

// Percent writes a share of 1 without digits after the point. It says 100 only when all is done, and 0 only when
// nothing is.
func Percent(ctx context.Context, share float64) string {
	percent := math.Round(100 * share)
	switch {
	case share >= 1:
		percent = 100
	case share <= 0 || math.IsNaN(share):
		percent = 0
	default:
		percent = min(max(percent, 1), 99)
	}
	if tongueOf(ctx).code == "es" {
		return fmt.Sprintf("%.0f\u00a0%%", percent)
	}
	return fmt.Sprintf("%.0f%%", percent)
}

// Short writes a large number with three digits: 7.87 M.
func Short(ctx context.Context, n int64) string {
	if n < 10_000 {
		return Number(ctx, n)
	}
	return scaled(ctx, float64(n), []string{"", "k", "M", "G", "T"})
}

// Bytes writes a size with three digits, in powers of ten: 618 MB, 1.07 GB.
func Bytes(ctx context.Context, n int64) string {
	return scaled(ctx, float64(n), []string{"B", "kB", "MB", "GB", "TB", "PB"})
}

// scaled divides by a thousand until three digits are left before the point.
func scaled(ctx context.Context, f float64, units []string) string {
	i := 0
	for math.Abs(f) >= 999.5 && i < len(units)-1 {
		f, i = f/1000, i+1
	}
	digits := 0
	switch a := math.Abs(f); {
	case i == 0:
	case a < 9.995:
		digits = 2
	case a < 99.95:
		digits = 1
	}
	return strings.TrimSuffix(Decimal(ctx, f, digits)+"\u00a0"+units[i], "\u00a0")
}

// Duration writes how long something took or will take, with two units at most: 1.2 s, 42 s, 1 min 10 s, 2 h 5 min.
func Duration(ctx context.Context, d time.Duration) string {
	d = max(d, 0)
	if d < 9950*time.Millisecond {
		return Decimal(ctx, d.Seconds(), 1) + "\u00a0s"
	}
	d = d.Round(time.Second)
	var parts []string
	for _, u := range []struct {
		size time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "min"}, {time.Second, "s"}} {
		n := d / u.size
		d -= n * u.size
		if n > 0 {
			parts = append(parts, Number(ctx, int64(n))+"\u00a0"+u.name)
		} else if len(parts) > 0 {
			break
		}
		if len(parts) == 2 {
			break
		}
	}
	return strings.Join(parts, " ")
}

// Clock writes a duration that counts up: 01:28, 1:01:28.
func Clock(d time.Duration) string {
	s := int(max(d, 0).Seconds())
	if s < 3600 {
		return fmt.Sprintf("%02d:%02d", s/60, s%60)
	}
	return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
}

// Ago writes how long ago something was: "12 minutes ago". After a month it is the date.
func Ago(ctx context.Context, t time.Time) string {
	switch d := time.Since(t); {
	case d < time.Minute:
		return T(ctx, "ago.now")
	case d < time.Hour:
		return T(ctx, "ago.minutes", "Count", int(d.Minutes()))
	case d < 24*time.Hour:
		return T(ctx, "ago.hours", "Count", int(d.Hours()))
	case d < 30*24*time.Hour:
		return T(ctx, "ago.days", "Count", int(d.Hours()/24))
	}
	return Date(ctx, t)
}

// In writes when something will be: "in 7 days". What is over is now.
func In(ctx context.Context, t time.Time) string {
	switch d := time.Until(t).Round(time.Minute); {
	case d < time.Hour:
		return T(ctx, "in.minutes", "Count", int(max(d, 0).Minutes()))
	case d < 48*time.Hour:
		return T(ctx, "in.hours", "Count", int(d.Hours()))
	default:
		return T(ctx, "in.days", "Count", int(d.Round(time.Hour).Hours()/24))
	}
}

// Date writes a day: 23 Nov 2026, or 23 nov 2026.
func Date(ctx context.Context, t time.Time) string {
	month := T(ctx, "month."+fmt.Sprint(int(t.Month())))
	return fmt.Sprintf("%d %s %d", t.Day(), month, t.Year())
}
