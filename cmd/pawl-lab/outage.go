package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	consul "github.com/hashicorp/consul/api"
)

const (
	// probeEvery is how often it is proved that the node is still of use.
	probeEvery = time.Second
	// tellEvery is how often the count of it is printed while something is down.
	tellEvery = 5 * time.Second
	// settled is how long Serving must hold before it counts as being back: what
	// has expired may be refused only after the first good answer.
	settled = 3 * time.Second
)

// proof counts what was asked, once a second, from the kill to the return.
type proof struct {
	// scrapes of /metrics, and how many of them were not answered with 200.
	scrapes, lost int
	// present and absent: the catalogue answered; silent: it was the thing that was down.
	present, absent, silent int
}

func (p proof) String() string {
	text := fmt.Sprintf("/metrics answered %d of %d; node in the catalogue %d of %d", p.scrapes-p.lost, p.scrapes, p.present, p.present+p.absent)
	if p.silent > 0 {
		text += fmt.Sprintf(" (and %d times no server to ask)", p.silent)
	}
	return text
}

// outage is what became of one.
type outage struct {
	what   string
	length time.Duration
	// killed is when it was taken down; answered when it answered again.
	killed, answered time.Time
	// back is when the agent came to Serving to stay; zero while it has not.
	back  time.Time
	moves []move
	proof proof
}

// toServing is how long after the return of what was down the agent served
// again. An agent that had not left, or was back sooner than we knew, took no time.
func (o outage) toServing() time.Duration { return max(0, o.back.Sub(o.answered)) }

// noticed says whether the agent ever left its whole work.
func (o outage) noticed() bool {
	return slices.ContainsFunc(o.moves, func(one move) bool { return !good(one.To) })
}

// showOutages takes Vault down and back, then Consul, and prints what came of it.
func (l *lab) showOutages(ctx context.Context, o demoOptions, running *agent) error {
	var all []outage
	var failed error
	for _, each := range []struct {
		what  string
		names []string
	}{{"Vault", []string{"vault"}}, {"Consul", l.record.Consul.Names}} {
		one, err := l.suffer(ctx, each.what, each.names, o.outageLength, running)
		all = append(all, one)
		if err != nil {
			failed = fmt.Errorf("outage of %s: %w", each.what, err)
			break
		}
	}
	return errors.Join(failed, printOutages(o.up.stdout, all))
}

// suffer kills what is named, waits, starts it again and waits for Serving, all
// the while proving that the node is of use.
func (l *lab) suffer(ctx context.Context, what string, names []string, length time.Duration, running *agent) (result outage, err error) {
	result = outage{what: what, length: length, killed: time.Now()}
	before := running.log.count()
	defer func() { result.moves, _ = running.log.since(before) }()
	l.tell("killing %s for %s", what, length)
	if err := l.obey(ctx, order{Command: "kill", Names: names}); err != nil {
		return result, err
	}
	result.killed = time.Now()
	proving := newProver(l, running)
	defer func() { result.proof = proving.end() }()
	if err := l.sit(ctx, what, length, running, proving); err != nil {
		return result, err
	}
	l.tell("starting %s again", what)
	if err := l.obey(ctx, order{Command: "start", Names: names}); err != nil {
		return result, err
	}
	result.answered = time.Now()
	l.tell("%s answers again", what)
	result.back, err = running.awaitReturn(ctx, before, servingTimeout)
	if err == nil {
		l.tell("pawl is back: Serving %s after %s answered again", short(result.toServing()), what)
	}
	return result, err
}

// sit lets an outage last, and tells how the node fares.
func (l *lab) sit(ctx context.Context, what string, length time.Duration, running *agent, proving *prover) error {
	over := time.NewTimer(length)
	defer over.Stop()
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	began := time.Now()
	for {
		select {
		case <-over.C:
			return nil
		case <-ctx.Done():
			return errInterrupted
		case <-running.ended:
			return running.died()
		case <-tick.C:
			l.tell("%s is down for %.0f s, pawl stands in %s: %s", what, time.Since(began).Seconds(), running.state(), proving.count())
		}
	}
}

// awaitReturn waits until the agent serves and has done so for a while, and
// returns since when. The moves after the first count are those since the outage.
func (a *agent) awaitReturn(ctx context.Context, count int, limit time.Duration) (time.Time, error) {
	deadline := time.Now().Add(limit)
	is := func(moves []move) bool {
		_, there := arrival(moves)
		return len(moves) == 0 || there // no move at all: it never left
	}
	for {
		if err := a.await(ctx, count, time.Until(deadline), "back in "+serving, is); err != nil {
			return time.Time{}, err
		}
		bounded, cancel := context.WithTimeout(ctx, settled)
		err := a.await(bounded, count, 2*settled, "", func(moves []move) bool { return !is(moves) })
		cancel()
		switch {
		case err == nil: // gone again
		case ctx.Err() == nil && errors.Is(err, errInterrupted):
			moves, _ := a.log.since(count)
			at, _ := arrival(moves)
			return at, nil
		default:
			return time.Time{}, err
		}
	}
}

// prover asks once a second whether the node is still of use. Safe from any goroutine.
type prover struct {
	stop  context.CancelFunc
	done  sync.WaitGroup
	mutex sync.Mutex
	sum   proof
}

func newProver(l *lab, running *agent) *prover {
	ctx, cancel := context.WithCancel(context.Background())
	p := &prover{stop: cancel}
	metrics := "http://" + running.program.site.NodeExporter.Listen + "/metrics"
	node := l.record.Metadata.VMs[0].Name
	p.done.Go(func() {
		tick := time.NewTicker(probeEvery)
		defer tick.Stop()
		for {
			p.probe(ctx, func(ctx context.Context) error { return expectOK(ctx, metrics) }, func(ctx context.Context) (bool, error) { return l.consul.lists(ctx, node) })
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
	return p
}

// probe asks both once. What end has interrupted does not count.
func (p *prover) probe(ctx context.Context, scrape func(context.Context) error, lists func(context.Context) (bool, error)) {
	bounded, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	scraped := scrape(bounded)
	if ctx.Err() != nil {
		return
	}
	listed, asked := lists(bounded)
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.sum.scrapes++
	if scraped != nil {
		p.sum.lost++
	}
	switch {
	case asked != nil && ctx.Err() != nil:
	case asked != nil:
		p.sum.silent++
	case listed:
		p.sum.present++
	default:
		p.sum.absent++
	}
}

func (p *prover) count() proof {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.sum
}

func (p *prover) end() proof {
	p.stop()
	p.done.Wait()
	return p.count()
}

// lists asks the servers whether the node is in their catalogue; the first that
// answers counts.
func (c *consulServers) lists(ctx context.Context, node string) (bool, error) {
	var refused error
	for _, client := range c.clients {
		found, _, err := client.Catalog().Node(node, (&consul.QueryOptions{}).WithContext(ctx))
		if err == nil {
			return found != nil && found.Node != nil, nil
		}
		refused = err
	}
	return false, refused
}

// printOutages prints every outage's walk, then all of them as a table.
func printOutages(out io.Writer, all []outage) error {
	var text strings.Builder
	for _, one := range all {
		fmt.Fprintf(&text, "\n%s down for %s:\n", one.what, short(one.length))
		inner := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
		for _, step := range one.moves {
			fmt.Fprintf(inner, "  +%.1f s\t%s > %s\t%s\t%s\n", step.At.Sub(one.killed).Seconds(), step.From, step.To, step.Event, cut(step.Cause))
		}
		_ = inner.Flush()
	}
	fmt.Fprintln(&text)
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "taken down\tfor\tback to Serving\tscrapes lost\tnode in the catalogue\twalk")
	for _, one := range all {
		back := "never"
		switch {
		case !one.answered.IsZero() && !one.noticed():
			back = "never left it"
		case !one.back.IsZero():
			back = short(one.toServing()) + " after its return"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%d of %d\t%d of %d asked\t%s\n", one.what, short(one.length), back,
			one.proof.lost, one.proof.scrapes, one.proof.present, one.proof.present+one.proof.absent, walk(one.moves))
	}
	_ = table.Flush()
	_, err := io.WriteString(out, text.String())
	return err
}

// causeWidth keeps a walk's lines on a terminal.
const causeWidth = 90

func cut(text string) string {
	if len(text) > causeWidth {
		return text[:causeWidth-3] + "..."
	}
	return text
}
