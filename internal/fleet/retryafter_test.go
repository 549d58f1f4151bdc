package fleet

import (
	"encoding/pem"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"pawl/fsm"
	"pawl/internal/failure"
	"pawl/internal/site"
	realvault "pawl/internal/vault"
	"pawl/transitions"
)

// TestRetryAfterFromTheWire: the real client reads a real answer, the machine
// waits as long as it was asked to, and then probes before it logs in again. Time
// is the simulation's, so that nothing is waited for.
func TestRetryAfterFromTheWire(t *testing.T) {
	const asked = 17 * time.Second
	for name, row := range map[string]struct {
		status int
		body   string
		header string
		least  time.Duration
	}{
		"a quota":                      {429, `{"errors":["rate limit quota exceeded"]}`, "17", asked},
		"overload":                     {503, `{"errors":["server overloaded"]}`, "17", asked},
		"sealed, without a word of it": {503, `{"errors":["Vault is sealed"]}`, "", 300 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			logins, probes := 0, 0
			web := httptest.NewUnstartedServer(http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
				if strings.HasSuffix(request.URL.Path, "/sys/health") {
					probes++
					_, _ = io.WriteString(writer, `{"initialized":true}`)
					return
				}
				logins++
				if row.header != "" {
					writer.Header().Set("Retry-After", row.header)
				}
				writer.WriteHeader(row.status)
				_, _ = io.WriteString(writer, row.body)
			}))
			web.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
			web.StartTLS()
			defer web.Close()
			client, err := realvault.New(site.Site{
				CARoots: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw})),
				Vault:   site.Vault{Address: web.URL, JWTMount: "jwt", JWTRole: "pawl", Timeout: 5 * time.Second},
			})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()

			sim := &simulation{scenario: Alone(testSeed)}
			a := &agent{sim: sim}
			a.world = world{agent: a, name: "vm-1"}
			settings := transitions.Settings{ProbeInterval: probeInterval, Now: sim.clock, Roll: rand.New(rand.NewPCG(testSeed, 0)).Float64}
			machine, err := fsm.New(fsm.Options{Arrows: transitions.Arrows(), Settings: settings, Log: slog.New(slog.DiscardHandler),
				Work: transitions.Table(transitions.Ports{Metadata: &a.world, Vault: client, Consul: &a.world, Exporter: &a.world}, settings)})
			if err != nil {
				t.Fatal(err)
			}
			// Turn as often as the machine wants, until the second login.
			var made []transitions.Action
			var refusedAt, probedAt time.Duration
			var ended *fsm.Pending
			for range 20 {
				pending, wake, any := machine.Step(sim.clock(), ended)
				ended = nil
				if pending == nil {
					if !any {
						t.Fatal("nothing will ever happen again")
					}
					sim.now = wake.Sub(epoch())
					continue
				}
				made = append(made, pending.Work.Action)
				if pending.Work.Action == transitions.Probe {
					probedAt = sim.now
				}
				if logins == 1 && pending.Work.Action == transitions.Login {
					break
				}
				pending.Make(t.Context())
				if pending.Work.Action == transitions.Login {
					refusedAt = sim.now
				}
				ended = pending
			}
			want := []transitions.Action{transitions.FetchJWT, transitions.Login, transitions.Probe, transitions.Login}
			if len(made) != len(want) || made[1] != want[1] || made[2] != want[2] || made[3] != want[3] || logins != 1 || probes != 1 {
				t.Fatalf("made %v, %d logins and %d probes reached the server", made, logins, probes)
			}
			if waited := probedAt - refusedAt; waited < row.least || waited > row.least+time.Second {
				t.Errorf("asked again after %s, want %s", waited, row.least)
			}
			for _, action := range machine.Snapshot().Actions {
				if action.Action == transitions.Login && (action.LastClass != failure.Transient || action.Backoff < row.least.Seconds()) {
					t.Errorf("took it for %+v", action)
				}
			}
		})
	}
}
