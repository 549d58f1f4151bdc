package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	consul "github.com/hashicorp/consul/api"
)

const (
	// scrapeEvery is how often the metrics are asked for.
	scrapeEvery = 250 * time.Millisecond
	// scrapeBound is how long one scrape may take: Prometheus' own default.
	scrapeBound = 10 * time.Second
)

// scraper asks for the metrics some times a second, and counts. Safe from any goroutine.
type scraper struct {
	stop context.CancelFunc
	work sync.WaitGroup

	began        time.Time
	every        time.Duration
	mutex        sync.Mutex
	asked        int
	lost         []string
	slowest, all time.Duration
}

// scrape starts a scraper, which ends with the test if not before.
func (l *lab) scrape(t *testing.T) *scraper {
	return l.scrapeBy(t, scrapeEvery, &http.Transport{})
}

// scrapeBy starts one that asks so often, in this way.
func (l *lab) scrapeBy(t *testing.T, every time.Duration, way *http.Transport) *scraper {
	ctx, cancel := context.WithCancel(context.Background())
	s := &scraper{stop: cancel, began: time.Now(), every: every}
	url := l.binaries.site.metrics(t)
	client := &http.Client{Timeout: scrapeBound, Transport: way}
	s.work.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			s.work.Go(func() { s.one(ctx, client, url) }) // a slow one does not hold up the next
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
	t.Cleanup(func() { s.end() })
	return s
}

func (s *scraper) one(ctx context.Context, client *http.Client, url string) {
	began := time.Now()
	err := getMetrics(ctx, client, url)
	if ctx.Err() != nil {
		return // interrupted by end
	}
	took := time.Since(began)
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.asked++
	s.all += took
	s.slowest = max(s.slowest, took)
	if err != nil {
		s.lost = append(s.lost, began.Format(time.TimeOnly)+" "+err.Error())
	}
}

// getMetrics is one scrape: 200, and a page to its end.
func getMetrics(ctx context.Context, client *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	length, err := io.Copy(io.Discard, response.Body)
	switch {
	case err != nil:
		return err
	case response.StatusCode != http.StatusOK || length == 0:
		return fmt.Errorf("%s with %d bytes", response.Status, length)
	}
	return nil
}

// awaitMetrics waits until the exporter answers: it is up from the start, which
// takes it some milliseconds.
func (l *lab) awaitMetrics(t *testing.T) {
	t.Helper()
	url := l.binaries.site.metrics(t)
	eventually(t, "the metrics answer", func() (bool, string) {
		err := getMetrics(t.Context(), http.DefaultClient, url)
		return err == nil, fmt.Sprint(err)
	})
}

// end stops it.
func (s *scraper) end() {
	s.stop()
	s.work.Wait()
}

// demandAll ends it and fails the test when a scrape was lost.
func (s *scraper) demandAll(t *testing.T) {
	t.Helper()
	length := time.Since(s.began)
	s.end()
	t.Logf("%d scrapes, %d lost, mean %s, slowest %s", s.asked, len(s.lost),
		(s.all / time.Duration(max(1, s.asked))).Round(time.Millisecond), s.slowest.Round(time.Millisecond))
	if len(s.lost) > 0 {
		t.Errorf("%d of %d scrapes were lost: %q", len(s.lost), s.asked, s.lost[:min(5, len(s.lost))])
	}
	// A busy machine may swallow a tick or two, and no more.
	if least := int(0.9 * float64(length/s.every)); s.asked < least {
		t.Errorf("only %d scrapes in %s, want %d: this machine is too slow to prove anything", s.asked, length, least)
	}
}

// presence asks the servers four times a second whether our node is in the
// catalogue. Safe from any goroutine.
type presence struct {
	stop context.CancelFunc
	work sync.WaitGroup

	mutex                   sync.Mutex
	present, absent, silent int
}

func (l *lab) watchPresence(t *testing.T) *presence {
	ctx, cancel := context.WithCancel(context.Background())
	p := &presence{stop: cancel}
	name := l.vm().Name
	p.work.Go(func() {
		tick := time.NewTicker(scrapeEvery)
		defer tick.Stop()
		for {
			found, _, err := l.consul.Catalog().Node(name, (&consul.QueryOptions{}).WithContext(ctx))
			if ctx.Err() != nil {
				return
			}
			p.mutex.Lock()
			switch {
			case err != nil:
				p.silent++
			case found == nil || found.Node == nil || found.Services[serviceName] == nil:
				p.absent++
			default:
				p.present++
			}
			p.mutex.Unlock()
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
	t.Cleanup(func() { p.end() })
	return p
}

func (p *presence) end() {
	p.stop()
	p.work.Wait()
}

// demandAlways ends it and fails the test when node or service were ever missing.
func (p *presence) demandAlways(t *testing.T) {
	t.Helper()
	p.end()
	t.Logf("node and service in the catalogue: %d of %d times asked, %d times no server to ask", p.present, p.present+p.absent, p.silent)
	if p.absent > 0 || p.present == 0 {
		t.Errorf("node or service were missing from the catalogue %d of %d times", p.absent, p.present+p.absent)
	}
}

// vigil blocks on the servers' view of our node's checks, so that no status is
// too short to be seen. Safe from any goroutine.
type vigil struct {
	stop context.CancelFunc
	work sync.WaitGroup

	mutex sync.Mutex
	looks int
	bad   []string
}

func (l *lab) watchHealth(t *testing.T) *vigil {
	ctx, cancel := context.WithCancel(context.Background())
	v := &vigil{stop: cancel}
	name := l.vm().Name
	v.work.Go(func() {
		var index uint64
		for ctx.Err() == nil {
			checks, meta, err := l.consul.Health().Node(name, consistent(index).WithContext(ctx))
			if ctx.Err() != nil {
				return
			}
			v.mutex.Lock()
			v.looks++
			if err != nil {
				v.bad = append(v.bad, err.Error())
				v.mutex.Unlock()
				return
			}
			index = meta.LastIndex
			if len(checks) != 2 {
				v.bad = append(v.bad, fmt.Sprintf("%d checks", len(checks)))
			}
			for _, each := range checks {
				if each.Status != consul.HealthPassing {
					v.bad = append(v.bad, fmt.Sprintf("%s is %s (%.80q)", each.CheckID, each.Status, each.Output))
				}
			}
			v.mutex.Unlock()
		}
	})
	t.Cleanup(func() { v.end() })
	return v
}

func (v *vigil) end() {
	v.stop()
	v.work.Wait()
}

// demandUnmoved ends it and fails the test when a check was ever anything but
// passing, or missing.
func (v *vigil) demandUnmoved(t *testing.T) {
	t.Helper()
	v.end()
	if len(v.bad) > 0 {
		t.Errorf("the checks were not always two and passing: %q", v.bad[:min(5, len(v.bad))])
	}
}
