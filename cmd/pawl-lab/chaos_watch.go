package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	consul "github.com/hashicorp/consul/api"
)

// chronicle keeps the agent's log and passes it on. Safe from any goroutine.
type chronicle struct {
	out io.Writer

	mutex sync.Mutex
	lines []string
	grown chan struct{} // closed and made anew with every line
}

func newChronicle(out io.Writer) *chronicle { return &chronicle{out: out, grown: make(chan struct{})} }

// Write implements io.Writer. It is given whole lines.
func (c *chronicle) Write(text []byte) (int, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	for line := range strings.Lines(string(text)) {
		c.lines = append(c.lines, strings.TrimRight(line, "\n"))
	}
	close(c.grown)
	c.grown = make(chan struct{})
	return c.out.Write(text)
}

func (c *chronicle) count() int {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return len(c.lines)
}

// find returns the first line after the first count that has all the words.
func (c *chronicle) find(count int, all words) (string, bool) {
	line, _ := c.look(count, all)
	return line, line != ""
}

// look is find, and a channel that is closed when there is another line.
func (c *chronicle) look(count int, all words) (string, <-chan struct{}) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	for _, line := range c.lines[min(count, len(c.lines)):] {
		has := true
		for _, word := range all {
			has = has && strings.Contains(line, word)
		}
		if has {
			return line, nil
		}
	}
	return "", c.grown
}

// await returns when a line after the first count has all the words.
func (c *chronicle) await(ctx context.Context, ended <-chan struct{}, count int, limit time.Duration, all words) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		line, grown := c.look(count, all)
		if line != "" {
			return nil
		}
		select {
		case <-grown:
		case <-ended:
			return errAgentEnded
		case <-ctx.Done():
			return errInterrupted
		case <-timer.C:
			return fmt.Errorf("no line with %q after %s", all, limit)
		}
	}
}

// sightings is what a watcher saw.
type sightings struct {
	Scrapes, Lost int
	// FirstLost and Why are of the first that was lost.
	FirstLost time.Time
	Why       string
	// Present and Absent count what the catalogue answered; Silent: no server did.
	Present, Absent, Silent int
}

const (
	// scrapeEvery is much shorter than any restart of the exporter takes.
	scrapeEvery = 200 * time.Millisecond
	// scrapeTimeout is Prometheus's default: who answers later has lost the scrape.
	scrapeTimeout = 10 * time.Second
	lookEvery     = 500 * time.Millisecond
)

// watcher asks all the while whether the node is of use. Safe from any goroutine.
type watcher struct {
	stop  context.CancelFunc
	done  sync.WaitGroup
	mutex sync.Mutex
	seen  sightings
}

// newWatcher begins to watch. At boot it begins with the first answer.
func newWatcher(s *scene) *watcher {
	ctx, cancel := context.WithCancel(context.Background())
	w := &watcher{stop: cancel}
	metrics := "http://" + s.program.site.NodeExporter.Listen + "/metrics"
	node, atBoot := s.lab.record.Metadata.VMs[0].Name, s.atBoot
	w.every(ctx, scrapeEvery, func() {
		bounded, cancel := context.WithTimeout(ctx, scrapeTimeout)
		defer cancel()
		err := s.scrape(bounded, metrics)
		if ctx.Err() != nil {
			return
		}
		w.mutex.Lock()
		defer w.mutex.Unlock()
		if err != nil && atBoot && w.seen.Scrapes == 0 {
			return
		}
		w.seen.Scrapes++
		if err != nil {
			w.seen.Lost++
			if w.seen.Lost == 1 {
				w.seen.FirstLost, w.seen.Why = time.Now(), err.Error()
			}
		}
	})
	w.every(ctx, lookEvery, func() {
		listed, err := s.lab.named().stillLists(ctx, node)
		if ctx.Err() != nil {
			return
		}
		w.mutex.Lock()
		defer w.mutex.Unlock()
		switch {
		case err != nil:
			w.seen.Silent++
		case listed:
			w.seen.Present++
		case atBoot && w.seen.Present == 0: // not yet
		default:
			w.seen.Absent++
		}
	})
	return w
}

// scraper opens a connection for each request: who scrapes first must be answered too.
var scraper = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// scrape is one GET that must be answered with 200, to its last byte.
func (s *scene) scrape(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := scraper.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, response.Status)
	}
	_, err = io.Copy(io.Discard, response.Body)
	return err
}

// every does the same until ctx ends.
func (w *watcher) every(ctx context.Context, interval time.Duration, do func()) {
	w.done.Go(func() {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for ctx.Err() == nil {
			do()
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	})
}

func (w *watcher) end() sightings {
	w.stop()
	w.done.Wait()
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return w.seen
}

// named are the servers that the site's name leads to; all, while it leads nowhere.
func (l *lab) named() *consulServers {
	addresses := l.names.snapshot()[consulName+"."]
	named := &consulServers{}
	for n, client := range l.consul.clients {
		if slices.Contains(addresses, netip.MustParseAddr(consulIP(n+1))) {
			named.clients = append(named.clients, client)
		}
	}
	if len(named.clients) == 0 {
		return l.consul
	}
	return named
}

// stillLists asks every server at once whether node and service are in its
// catalogue, as it has it, leader or not. One that has them is enough. One that has
// them not is asked again for what the cluster agrees on, for a server that was just
// started has nothing until there is a leader. An error means that none answered.
func (c *consulServers) stillLists(ctx context.Context, node string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	type answer struct {
		listed bool
		err    error
	}
	answers := make(chan answer, len(c.clients))
	for _, client := range c.clients {
		go func() {
			var got answer
			for _, how := range []consul.QueryOptions{{AllowStale: true}, {RequireConsistent: true}} {
				found, _, err := client.Catalog().Node(node, how.WithContext(ctx))
				if got = (answer{err == nil && found != nil && found.Services["node-exporter"] != nil, err}); got.listed {
					break
				}
			}
			answers <- got
		}()
	}
	refused := errors.New("no server at all")
	for range c.clients {
		got := <-answers
		if got.listed {
			return true, nil
		}
		if refused != nil {
			refused = got.err
		}
	}
	return false, refused
}
