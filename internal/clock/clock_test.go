package clock

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// TestObserve: the skew is within a second of the truth, either way, and the
// corrected time follows it.
func TestObserve(t *testing.T) {
	for _, ahead := range []time.Duration{0, time.Hour, -time.Hour, 365 * 24 * time.Hour, -40 * time.Second} {
		var c Clock
		if _, known := c.Ahead(); known {
			t.Fatal("a new clock claims to know")
		}
		now := time.Now()
		c.Observe(now.Add(-ahead).Truncate(time.Second), now.Add(-20*time.Millisecond), now)
		got, known := c.Ahead()
		if !known || (got-ahead).Abs() > time.Second {
			t.Errorf("ahead by %s, measured %s", ahead, got)
		}
		if off := c.Now().Sub(now.Add(-ahead)).Abs(); off > 2*time.Second {
			t.Errorf("ahead by %s: the corrected time is off by %s", ahead, off)
		}
		c.Observe(time.Time{}, now, now)
		if again, _ := c.Ahead(); again != got {
			t.Error("an answer without a date changed what is known")
		}
	}
}

// TestWatch: every answer is observed, an error's too.
func TestWatch(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(response http.ResponseWriter, _ *http.Request) {
		response.Header().Set("Date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
		response.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer server.Close()
	var c Clock
	client := &http.Client{Transport: c.Watch(http.DefaultTransport)}
	response, err := client.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if ahead, known := c.Ahead(); !known || (ahead-time.Hour).Abs() > 2*time.Second {
		t.Errorf("measured %s, %v", ahead, known)
	}
	client.CloseIdleConnections()
}

// TestStepsSince: what was measured follows the wall clock when that is set, and
// only then. A correction that stayed as it was would call a clock wrong that NTP
// has just set right, refuse Vault's certificate by it, and never hear of its Date.
func TestStepsSince(t *testing.T) {
	const year = 365 * 24 * time.Hour
	then := time.Date(2016, 1, 1, 0, 0, 0, 0, time.UTC)
	behind := measurement{ahead: -10 * year, wall: then, boot: time.Minute}
	for _, row := range []struct {
		name       string
		wall, boot time.Duration // since the measurement
		want       time.Duration
	}{
		{"at once", 0, 0, -10 * year},
		{"an hour later", time.Hour, time.Hour, -10 * year},
		{"asleep for a day: both clocks count it", 24 * time.Hour, 24 * time.Hour, -10 * year},
		{"set right", 10*year + time.Hour, time.Hour, 0},
		{"set too far", 11*year + time.Hour, time.Hour, year},
		{"set back", -year, 0, -11 * year},
	} {
		if got := behind.at(then.Add(row.wall), time.Minute+row.boot); got != row.want {
			t.Errorf("%s: ahead by %s, want %s", row.name, got, row.want)
		}
	}
	if first, second := sinceBoot(), sinceBoot(); first <= 0 || second < first {
		t.Errorf("the boot clock says %s, then %s", first, second)
	}
}
