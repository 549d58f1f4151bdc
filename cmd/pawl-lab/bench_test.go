package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const ms = time.Millisecond

func TestMedian(t *testing.T) {
	for _, one := range []struct {
		all  []time.Duration
		want time.Duration
	}{{nil, 0}, {[]time.Duration{7}, 7}, {[]time.Duration{9, 1, 5}, 5}, {[]time.Duration{8, 2, 4, 100}, 6}} {
		given := append([]time.Duration(nil), one.all...)
		if got := median(given); got != one.want {
			t.Errorf("median of %v: %v, want %v", one.all, got, one.want)
		}
		for i := range given {
			if given[i] != one.all[i] {
				t.Error("the caller's slice was sorted")
			}
		}
	}
}

// sampleReport is a report as pawl prints it, of a walk whose moves came after so many milliseconds.
func sampleReport(t *testing.T, began time.Time) agentReport {
	t.Helper()
	at := func(after int) string { return began.Add(time.Duration(after) * ms).Format(time.RFC3339Nano) }
	text := `{"verdict":"ready","state":"Serving","started":"` + at(90) + `","evidence":[],"moves":[
		{"at":"` + at(100) + `","from":"NoIdentity","event":"identified","to":"HasJWT","cause":"c"},
		{"at":"` + at(130) + `","from":"HasJWT","event":"logged_in","to":"VaultAuthed","cause":"c"},
		{"at":"` + at(280) + `","from":"VaultAuthed","event":"joined","to":"ConsulReady","cause":"c"},
		{"at":"` + at(305) + `","from":"ConsulReady","event":"registered","to":"Serving","cause":"c"},
		{"at":"` + at(900) + `","from":"Serving","event":"due","to":"Renewing","cause":"c"}],
		"actions":[{"action":"log_in","attempts_total":1,"last_success_took_seconds":0.025}]}`
	var parsed agentReport
	if err := json.Unmarshal([]byte(text), &parsed); err != nil {
		t.Fatal(err)
	}
	return parsed
}

func TestSplitSharesTheWholeBoot(t *testing.T) {
	began := time.Unix(1000, 0)
	one, err := split(began, began.Add(300*ms), sampleReport(t, began))
	if err != nil {
		t.Fatal(err)
	}
	want := []leg{{"exec -> main", 90 * ms}, {"identified (HasJWT)", 10 * ms}, {"logged_in (VaultAuthed)", 30 * ms}, {"joined (ConsulReady)", 150 * ms}, {"ConsulReady -> passing", 20 * ms}}
	var sum time.Duration
	for i, leg := range one.legs {
		sum += leg.took
		if i >= len(want) || leg != want[i] {
			t.Errorf("leg %d: %+v", i, leg)
		}
	}
	if sum != one.total || one.total != 300*ms || one.after != 5*ms || len(one.legs) != len(want) {
		t.Errorf("sum %s, %+v", sum, one)
	}
	if len(one.actions) != 1 || one.actions[0] != (leg{"log_in", 25 * ms}) {
		t.Errorf("actions %+v", one.actions)
	}
	cut := sampleReport(t, began)
	cut.Moves = cut.Moves[:3]
	if _, err := split(began, began, cut); err == nil {
		t.Error("a report without Serving was believed")
	}
}

func TestCountLogins(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	line := func(kind, path string) string {
		return `{"type":"` + kind + `","request":{"path":"` + path + `"}}` + "\n"
	}
	before := line("request", loginPath) + line("response", loginPath)
	text := before + line("request", loginPath) + line("response", loginPath) + line("response", "auth/token/renew-self") + line("response", loginPath) + `{"type":"respo`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for offset, want := range map[int64]int{0: 3, int64(len(before)): 2, int64(len(text)): 0, 1 << 30: 0} {
		if got, err := countLogins(path, offset); err != nil || got != want {
			t.Errorf("from %d: %d %v, want %d", offset, got, err, want)
		}
	}
	if _, err := countLogins(path, 1); err == nil {
		t.Error("half an entry was passed over")
	}
}

func TestJudge(t *testing.T) {
	tests := []struct {
		name  string
		boots []boot
		want  string
	}{
		{"kept", []boot{{total: 599 * ms, logins: 1}, {total: 100 * ms, logins: 1}, {total: 9 * time.Second, logins: 1}}, ""},
		{"too slow", []boot{{total: promise, logins: 1}}, "not under 600 ms"},
		{"two logins", []boot{{total: 1, logins: 1}, {total: 1, logins: 2}}, "boot 2 logged in to Vault 2 times"},
		{"no login", []boot{{total: 1}}, "boot 1 logged in to Vault 0 times"},
		{"none", nil, ""},
	}
	for _, one := range tests {
		err := judge(one.boots)
		if (err == nil) != (one.want == "") || err != nil && !strings.Contains(err.Error(), one.want) {
			t.Errorf("%s: %v", one.name, err)
		}
	}
}

func TestBootTable(t *testing.T) {
	began := time.Unix(1000, 0)
	var boots []boot
	for _, passing := range []time.Duration{300 * ms, 380 * ms, 340 * ms} {
		one, err := split(began, began.Add(passing), sampleReport(t, began))
		if err != nil {
			t.Fatal(err)
		}
		one.logins = 1
		boots = append(boots, one)
	}
	var out bytes.Buffer
	if err := printBoots(&out, boots); err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{
		"boot 2 380.0 ms 1 login(s)", "min 300.0 ms, median 340.0 ms, max 380.0 ms over 3 boots",
		"exec -> main 90.0 26 %", "joined (ConsulReady) 150.0 44 %", "ConsulReady -> passing 60.0 18 %", "(passing -> Serving) -35.0", "log_in 25.0",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}
