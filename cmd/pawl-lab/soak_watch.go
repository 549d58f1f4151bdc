package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	consul "github.com/hashicorp/consul/api"
)

const (
	// soakEvery is how often everything is asked: more often than any scraper of a real site.
	soakEvery = 400 * time.Millisecond
	// scrapeBound is how long one scrape may take: Prometheus' own default.
	scrapeBound = 10 * time.Second
	// agentPolicy is the policy of the Consul tokens that Vault makes for agents.
	agentPolicy = "pawl"
)

// soakWatch looks at everything all the while. Safe from any goroutine.
type soakWatch struct {
	lab     *lab
	running *agent
	// status asks the agent's socket, scrapes its port: each question over a
	// connection of its own, since who comes first must be answered too.
	status, scrapes *http.Client
	stop            context.CancelFunc
	work            sync.WaitGroup

	mutex sync.Mutex
	seen  soakSeen
}

func newSoakWatch(l *lab, running *agent, wanted int) *soakWatch {
	ctx, cancel := context.WithCancel(context.Background())
	socket := filepath.Join(running.program.site.RuntimeFolder, "pawl.sock")
	w := &soakWatch{
		lab: l, running: running, stop: cancel, seen: newSoakSeen(len(l.consul.clients), wanted),
		scrapes: &http.Client{Timeout: scrapeBound, Transport: &http.Transport{DisableKeepAlives: true}},
		status: &http.Client{Timeout: askTimeout, Transport: &http.Transport{DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", socket)
			}}},
	}
	metrics := "http://" + running.program.site.NodeExporter.Listen + "/metrics"
	// A scrape that is slow does not hold up the next.
	w.every(ctx, func() { w.work.Go(func() { w.scrape(ctx, metrics) }) })
	w.every(ctx, func() {
		// Scrapes say whether the agent answers: no answer here is none.
		if answer, err := w.ask(ctx); err == nil {
			w.with(func(s *soakSeen) { s.note(answer, time.Now()) })
		}
	})
	w.every(ctx, func() {
		accessors, _ := l.consul.agentTokens(ctx)
		w.with(func(s *soakSeen) {
			for _, each := range accessors {
				s.listed[each] = true
			}
		})
	})
	for server := range l.consul.clients {
		w.every(ctx, func() {
			if now := w.look(ctx, server); ctx.Err() == nil {
				w.with(func(s *soakSeen) { s.account(server, now) })
			}
		})
	}
	return w
}

// with lets change look at or change what was seen.
func (w *soakWatch) with(change func(*soakSeen)) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	change(&w.seen)
}

// every does the same again and again until ctx ends.
func (w *soakWatch) every(ctx context.Context, do func()) {
	w.work.Go(func() {
		tick := time.NewTicker(soakEvery)
		defer tick.Stop()
		for {
			do()
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
}

// scrape is one GET of the metrics, which must be answered with 200, to its last byte.
func (w *soakWatch) scrape(ctx context.Context, url string) {
	began := time.Now()
	values, err := readSeries(ctx, w.scrapes, url)
	if ctx.Err() != nil {
		return // interrupted by end
	}
	took := time.Since(began)
	w.with(func(s *soakSeen) {
		s.scrapes++
		s.slowest = max(s.slowest, took)
		if took >= w.running.program.site.NodeExporter.CheckTimeout {
			s.slow = append(s.slow, window{began, began.Add(took)})
		}
		if err != nil {
			s.lost = append(s.lost, began.Format(time.TimeOnly)+" "+err.Error())
			return
		}
		s.samples = append(s.samples, sample{at: began, serving: good(w.running.state()), values: values})
	})
}

// readSeries scrapes and returns the series that a sample keeps.
func readSeries(ctx context.Context, client *http.Client, url string) (map[string]float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", url, response.Status)
	}
	return parseSeries(response.Body)
}

// ask reads the agent's report.
func (w *soakWatch) ask(ctx context.Context) (soakStatus, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://pawl/status", nil)
	if err != nil {
		return soakStatus{}, err
	}
	response, err := w.status.Do(request)
	if err != nil {
		return soakStatus{}, fmt.Errorf("ask pawl's status: %w", err)
	}
	defer response.Body.Close()
	var answer soakStatus
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return soakStatus{}, fmt.Errorf("read pawl's status: %w", err)
	}
	return answer, nil
}

// look asks one server, which has to be sure of its answer, for our node and its service.
func (w *soakWatch) look(ctx context.Context, server int) look {
	bounded, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	one := look{from: time.Now()}
	options := (&consul.QueryOptions{RequireConsistent: true}).WithContext(bounded)
	entries, _, err := w.lab.consul.clients[server].Health().Service(exporterService, "", false, options)
	one.to, one.err = time.Now(), err
	for _, each := range entries {
		if each.Node.Node == w.lab.record.Metadata.VMs[0].Name {
			one.present, one.passing = true, each.Checks.AggregatedStatus() == consul.HealthPassing
		}
	}
	return one
}

// agentTokens returns the accessors of the Consul tokens that Vault made for agents.
func (c *consulServers) agentTokens(ctx context.Context) ([]string, error) {
	bounded, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	options := (&consul.QueryOptions{RequireConsistent: true}).WithContext(bounded)
	var refused error
	for _, client := range c.clients {
		all, _, err := client.ACL().TokenList(options)
		if err != nil {
			refused = err
			continue
		}
		accessors := []string{}
		for _, each := range all {
			for _, policy := range each.Policies {
				if policy.Name == agentPolicy {
					accessors = append(accessors, each.AccessorID)
				}
			}
		}
		return accessors, nil
	}
	return nil, fmt.Errorf("list consul's tokens: %w", refused)
}

// consulDown notes that somebody is about to take Consul down, consulUp that it answers again.
func (w *soakWatch) consulDown(now time.Time) {
	w.with(func(s *soakSeen) { s.down = append(s.down, window{from: now}) })
}

func (w *soakWatch) consulUp(now time.Time) {
	w.with(func(s *soakSeen) { s.down[len(s.down)-1].to = now })
}

// rotations returns how often each credential was replaced at the least.
func (w *soakWatch) rotations() (count int) {
	w.with(func(s *soakSeen) { count = s.rotations() })
	return count
}

// end ends the watch and returns all that it saw.
func (w *soakWatch) end() (all soakSeen) {
	w.stop()
	w.work.Wait()
	w.with(func(s *soakSeen) { all = *s })
	return all
}
