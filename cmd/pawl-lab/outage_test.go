package main

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestProofCounts(t *testing.T) {
	down := errors.New("down")
	scrape := func(err error) func(context.Context) error { return func(context.Context) error { return err } }
	lists := func(there bool, err error) func(context.Context) (bool, error) {
		return func(context.Context) (bool, error) { return there, err }
	}
	p := &prover{}
	p.probe(t.Context(), scrape(nil), lists(true, nil))
	p.probe(t.Context(), scrape(down), lists(false, nil))
	p.probe(t.Context(), scrape(nil), lists(false, down))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	p.probe(ended, scrape(context.Canceled), lists(false, context.Canceled))
	if want := (proof{scrapes: 3, lost: 1, present: 1, absent: 1, silent: 1}); p.count() != want {
		t.Errorf("got %+v, want %+v", p.count(), want)
	}
	if got, want := p.count().String(), "/metrics answered 2 of 3; node in the catalogue 1 of 2 (and 1 times no server to ask)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestExpectOK(t *testing.T) {
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(writer http.ResponseWriter, _ *http.Request) { writer.WriteHeader(status) }))
	defer server.Close()
	if err := expectOK(t.Context(), server.URL); err != nil {
		t.Error(err)
	}
	status = http.StatusInternalServerError
	if err := expectOK(t.Context(), server.URL); err == nil || !strings.Contains(err.Error(), "500") {
		t.Errorf("got %v", err)
	}
}

// TestReturnMustHold: an agent that serves for a second and falls again is not back.
func TestReturnMustHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newStream(new(bytes.Buffer))
		running := &agent{log: log, ended: make(chan struct{})}
		began := time.Now()
		say := func(after time.Duration, from, to string) {
			time.AfterFunc(after, func() {
				_, _ = log.Write([]byte("msg=moved from=" + from + " event=e to=" + to + " cause=c\n"))
			})
		}
		_, _ = log.Write([]byte("msg=moved from=Serving event=broke to=Degraded cause=c\n"))
		say(1*time.Second, "Degraded", "Serving")
		say(2*time.Second, "Serving", "Degraded")
		say(5*time.Second, "Degraded", "Serving")
		say(6*time.Second, "Serving", "Renewing")
		say(7*time.Second, "Renewing", "Serving")
		at, err := running.awaitReturn(t.Context(), 0, time.Minute)
		if err != nil || at.Sub(began) != 5*time.Second || time.Since(began) != 5*time.Second+settled {
			t.Errorf("back at %s, known after %s, %v", at.Sub(began), time.Since(began), err)
		}
		if _, err := running.awaitReturn(t.Context(), log.count(), time.Minute); err != nil {
			t.Errorf("an agent that never left: %v", err)
		}
		_, _ = log.Write([]byte("msg=moved from=Serving event=broke to=Degraded cause=c\n"))
		if _, err := running.awaitReturn(t.Context(), 0, time.Minute); err == nil || !strings.Contains(err.Error(), "not back in Serving") {
			t.Errorf("an agent that does not come back: %v", err)
		}
	})
}

func TestOutageTable(t *testing.T) {
	killed := time.Unix(0, 0)
	fallen := outage{what: "Vault", length: 30 * time.Second, killed: killed, answered: killed.Add(31 * time.Second), back: killed.Add(32500 * time.Millisecond),
		moves: steps("Serving", "Degraded", "HasJWT", "Serving"), proof: proof{scrapes: 33, present: 33}}
	fallen.moves[1].Cause = strings.Repeat("long ", 100)
	lost := outage{what: "Consul", length: 2 * time.Second, killed: killed, moves: steps("Serving", "Degraded"), proof: proof{scrapes: 9, lost: 2, present: 1, absent: 3}}
	unseen := outage{what: "Vault", killed: killed, answered: killed.Add(time.Second), moves: steps("Serving", "Renewing", "Serving")}
	var out bytes.Buffer
	if err := printOutages(&out, []outage{fallen, lost, unseen}); err != nil {
		t.Fatal(err)
	}
	fields := func(text string) string { return strings.Join(strings.Fields(text), " ") }
	for _, want := range []string{
		"+1.0 s Serving > Degraded event", "+2.0 s Degraded > HasJWT event long long",
		"Vault 30.0 s 1.5 s after its return 0 of 33 33 of 33 asked Serving > Degraded > HasJWT > Serving",
		"Consul 2.0 s never 2 of 9 1 of 4 asked Serving > Degraded",
		"Vault 0 ms never left it 0 of 0 0 of 0 asked Serving > Renewing > Serving",
	} {
		if !strings.Contains(fields(out.String()), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

func TestDemoDefaults(t *testing.T) {
	filled := demoOptions{outage: true}.filled()
	if filled.up.ttl != outageTTL || filled.outageLength <= filled.up.ttl {
		t.Errorf("an outage must last longer than the TTL: %+v", filled)
	}
	given := demoOptions{outage: true, outageLength: time.Second, up: upOptions{ttl: time.Minute}}.filled()
	if given.up.ttl != time.Minute || given.outageLength != time.Second {
		t.Errorf("flags must win: %+v", given)
	}
	if plain := (demoOptions{}).filled(); plain.up.ttl != 0 {
		t.Errorf("without an outage the TTLs are those of production: %+v", plain)
	}
}
