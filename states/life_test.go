package states

import (
	"testing"
	"time"
	"unsafe"

	"pgregory.net/rapid"
)

// withMonotonic returns t with its monotonic reading moved by d and its wall
// clock left alone: what a clock that was set, or a machine that slept, leaves
// behind. No public call makes such a time, so the reading is moved in place.
func withMonotonic(t time.Time, d time.Duration) time.Time {
	reading := (*struct {
		wall      uint64
		monotonic int64
		location  *time.Location
	})(unsafe.Pointer(&t))
	reading.monotonic += int64(d)
	return t
}

// The helper above knows the insides of time.Time; this says when they change.
func TestWithMonotonicMovesOnlyTheMonotonicReading(t *testing.T) {
	before := time.Now()
	after := withMonotonic(before, 7*time.Second)
	if got := after.Sub(before); got != 7*time.Second {
		t.Errorf("monotonic difference %s, want 7s", got)
	}
	if !after.Round(0).Equal(before.Round(0)) {
		t.Errorf("wall clock moved from %s to %s", before, after)
	}
}

// moments of a test count from here; the wall one has no monotonic reading.
var (
	both = time.Now()
	wall = both.Round(0)
)

func TestNewLife(t *testing.T) {
	rows := []struct {
		name    string
		ttl     time.Duration
		roll    float64
		expires time.Time
		renewAt time.Time
	}{
		{"lowest roll: half", time.Hour, 0, both.Add(time.Hour), both.Add(30 * time.Minute)},
		{"middle roll", time.Hour, 0.5, both.Add(time.Hour), both.Add(35 * time.Minute)},
		{"highest roll: two thirds", time.Hour, 1, both.Add(time.Hour), both.Add(40 * time.Minute)},
		{"dice that are loaded low", time.Hour, -3, both.Add(time.Hour), both.Add(30 * time.Minute)},
		{"dice that are loaded high", time.Hour, 3, both.Add(time.Hour), both.Add(40 * time.Minute)},
		{"no ttl: for ever", 0, 0.5, time.Time{}, time.Time{}},
		{"negative ttl: for ever", -time.Second, 0.5, time.Time{}, time.Time{}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			life := NewLife("id", both, row.ttl, row.roll)
			want := Life{ID: "id", TTL: max(0, row.ttl), Received: both, Expires: row.expires, RenewAt: row.renewAt}
			if life != want {
				t.Errorf("got %+v\nwant %+v", life, want)
			}
		})
	}
}

func TestNewLifeBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ttl := time.Duration(rapid.Int64Range(1, int64(10*365*24*time.Hour)).Draw(t, "ttl"))
		roll := rapid.Float64().Draw(t, "roll")
		life := NewLife("id", both, ttl, roll)
		wait := life.RenewAt.Sub(both)
		// Some slack: thirds of a duration are rounded, those of years in a float.
		if wait < ttl/2 || wait > ttl*2/3+time.Microsecond {
			t.Fatalf("renew after %s of %s: want one half to two thirds", wait, ttl)
		}
		if !life.Live(both) || life.Due(both) && ttl > 1 {
			t.Fatalf("a life of %s just received: live %t, due %t", ttl, life.Live(both), life.Due(both))
		}
		if life.Live(both.Add(ttl)) || !life.Live(both.Add(ttl-1)) {
			t.Fatalf("a life of %s must end exactly then", ttl)
		}
	})
}

func TestExtended(t *testing.T) {
	was := NewLife("id", both, time.Hour, 0)
	was.Failed = true
	later := both.Add(45 * time.Minute)

	got := was.Extended(later, time.Hour, 1)
	if want := NewLife("id", later, time.Hour, 1); got != want {
		t.Errorf("got %+v\nwant %+v: the same credential, a new life, no failure", got, want)
	}
	if got = was.Extended(later, time.Minute, 1); got.TTL != time.Hour || !got.Expires.Equal(later.Add(time.Minute)) {
		t.Errorf("a shorter renewal: %+v, want its end, and the ttl first granted", got)
	}
	was.Refused = true
	if got = was.Extended(later, time.Hour, 1); !got.Refused || got.Live(later) {
		t.Errorf("a refused credential came back to life: %+v", got)
	}
	if got = was.Extended(later, 0, 1); !got.Expires.IsZero() || !got.RenewAt.IsZero() {
		t.Errorf("no ttl: %+v, want a life that never ends", got)
	}
}

func TestLifeGrades(t *testing.T) {
	life := NewLife("id", both, time.Hour, 0) // due after 30 minutes
	failed, refused, endless := life, life, NewLife("id", both, 0, 0)
	failed.Failed, refused.Refused = true, true
	rows := []struct {
		name               string
		life               Life
		after              time.Duration
		live, due, overdue bool
	}{
		{"none", Life{}, 0, false, false, false},
		{"none, long after", Life{}, time.Hour, false, false, false},
		{"fresh", life, 0, true, false, false},
		{"just before it is due", life, 30*time.Minute - 1, true, false, false},
		{"due", life, 30 * time.Minute, true, true, false},
		{"a failure from before it was due", failed, 30*time.Minute - 1, true, false, false},
		{"overdue", failed, 30 * time.Minute, true, true, true},
		{"expired", life, time.Hour, false, true, false},
		{"refused", refused, 0, false, false, false},
		{"endless", endless, 1000 * time.Hour, true, false, false},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			now := both.Add(row.after)
			if row.life.Live(now) != row.live || row.life.Due(now) != row.due || row.life.Overdue(now) != row.overdue {
				t.Errorf("live %t due %t overdue %t, want %t %t %t",
					row.life.Live(now), row.life.Due(now), row.life.Overdue(now), row.live, row.due, row.overdue)
			}
		})
	}
}

// Law 9: the sooner of the wall and the monotonic clock.
func TestPassedByEitherClock(t *testing.T) {
	in := both.Add(time.Minute)
	rows := []struct {
		name        string
		moment, now time.Time
		want        bool
		remaining   time.Duration
	}{
		{"not yet by either", in, both, false, time.Minute},
		{"by both", in, in, true, 0},
		{"long past", in, in.Add(time.Hour), true, 0},
		{"the wall clock was set back: the monotonic one decides", in, withMonotonic(both.Add(-time.Hour), time.Hour+time.Minute), true, 0},
		{"the machine slept: the wall clock decides", in, withMonotonic(both.Add(time.Hour), -time.Hour), true, 0},
		{"the wall clock was set back, not yet by the monotonic one", in, withMonotonic(both.Add(-time.Hour), time.Hour+time.Second), false, 59 * time.Second},
		{"the machine slept, not yet by the wall clock", in, withMonotonic(both.Add(10*time.Second), -10*time.Second), false, 50 * time.Second},
		{"moment without a monotonic reading, not yet", in.Round(0), both, false, time.Minute},
		{"moment without a monotonic reading, past", in.Round(0), in, true, 0},
		{"now without a monotonic reading, not yet", in, wall, false, time.Minute},
		{"now without a monotonic reading, past", in, in.Round(0), true, 0},
		{"neither has one", in.Round(0), wall.Add(59 * time.Second), false, time.Second},
		{"never", time.Time{}, both.Add(1000 * time.Hour), false, 0},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			if got := Passed(row.moment, row.now); got != row.want {
				t.Errorf("passed: %t, want %t", got, row.want)
			}
			if got := Remaining(row.moment, row.now); got != row.remaining {
				t.Errorf("remaining: %s, want %s", got, row.remaining)
			}
		})
	}
}

func TestSooner(t *testing.T) {
	early, late, never := both, both.Add(time.Second), time.Time{}
	rows := []struct{ a, b, want time.Time }{
		{early, late, early}, {late, early, early}, {early, early, early},
		{never, late, late}, {late, never, late}, {never, never, never},
	}
	for _, row := range rows {
		if got := Sooner(row.a, row.b); got != row.want {
			t.Errorf("Sooner(%s, %s) = %s, want %s", row.a, row.b, got, row.want)
		}
	}
}

// anyMoment draws a time within a day of both, with or without a monotonic
// reading, and with the two clocks apart by up to an hour.
func anyMoment(t *rapid.T, label string) time.Time {
	offset := func(limit time.Duration, part string) time.Duration {
		return time.Duration(rapid.Int64Range(-int64(limit), int64(limit)).Draw(t, label+part))
	}
	moment := both.Add(offset(24*time.Hour, ""))
	if rapid.Bool().Draw(t, label+" is wall only") {
		return moment.Round(0)
	}
	return withMonotonic(moment, offset(time.Hour, "'s jump"))
}

// Whatever the order of now, expiry, jitter and a clock's jump: time is not
// negative, what has come stays come, what has expired was due before.
func TestClockLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		received, now, other := anyMoment(t, "received"), anyMoment(t, "now"), anyMoment(t, "other")
		later := now.Add(time.Duration(rapid.Int64Range(0, int64(24*time.Hour)).Draw(t, "later")))
		ttl := time.Duration(rapid.Int64Range(-int64(time.Hour), int64(24*time.Hour)).Draw(t, "ttl"))
		life := NewLife("id", received, ttl, rapid.Float64Range(0, 1).Draw(t, "roll"))
		life.Failed, life.Refused = rapid.Bool().Draw(t, "failed"), rapid.Bool().Draw(t, "refused")

		for _, moment := range []time.Time{received, life.RenewAt, life.Expires, other} {
			remaining := Remaining(moment, now)
			if remaining < 0 {
				t.Fatalf("remaining: %s", remaining)
			}
			if !moment.IsZero() && Passed(moment, now) != (remaining == 0) {
				t.Fatalf("passed %t with %s remaining", Passed(moment, now), remaining)
			}
			if !moment.IsZero() && !Passed(moment, now.Add(remaining)) {
				t.Fatalf("not passed after waiting for the %s that remained: a loop that wakes then would spin", remaining)
			}
			if Passed(moment, now) && !Passed(moment, later) {
				t.Fatal("what had come went away again")
			}
		}
		if life.Live(later) && !life.Live(now) {
			t.Fatal("a credential came back to life")
		}
		if life.Overdue(now) && !life.Due(now) {
			t.Fatal("overdue and not due")
		}
		if ttl > 0 && Passed(life.Expires, now) && !life.Due(now) {
			t.Fatal("expired and never due")
		}
		if ttl <= 0 && (life.Due(now) || life.Live(now) == life.Refused) {
			t.Fatal("an endless life was due, or ended")
		}
		sooner := Sooner(now, other)
		if sooner != now && sooner != other {
			t.Fatal("the sooner of two is neither")
		}
		if sooner.After(now) || sooner.After(other) || !sooner.Equal(Sooner(other, now)) {
			t.Fatalf("%s is not the sooner of %s and %s", sooner, now, other)
		}
		if Sooner(time.Time{}, now) != now || Sooner(now, time.Time{}) != now {
			t.Fatal("never was sooner than a moment")
		}
	})
}
