package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	consul "github.com/hashicorp/consul/api"
)

// benchOptions are the flags of `bench-boot`.
type benchOptions struct {
	up    upOptions
	boots int
}

const (
	// promise is the median from exec to passing at the servers that is kept.
	promise = 600 * time.Millisecond
	// exporterService is the service whose check has to pass.
	exporterService = "node-exporter"
	// pollEvery is the pause where a blocking query came back with nothing new.
	pollEvery = 2 * time.Millisecond
	// goneTimeout bounds the wait for the servers to forget a node that left.
	goneTimeout = 30 * time.Second
)

func (o benchOptions) check() error {
	if o.boots < 1 {
		return usageError{fmt.Sprintf("--boots %d: at least 1", o.boots)}
	}
	return o.up.check()
}

// boot is one measured boot: from exec to passing, and the legs of the way.
type boot struct {
	total  time.Duration
	legs   []leg
	logins int
	// after is how long after passing the agent itself said Serving.
	after   time.Duration
	actions []leg
}

// leg is one named part of a boot.
type leg struct {
	name string
	took time.Duration
}

// bench boots the agent over and over and judges the median.
func bench(ctx context.Context, o benchOptions) error {
	return withAgent(ctx, o.up, func(ctx context.Context, l *lab, program agentProgram) error {
		var boots []boot
		var failed error
		for n := 1; n <= o.boots && failed == nil; n++ {
			var one boot
			if one, failed = l.bootOnce(ctx, program); failed == nil {
				boots = append(boots, one)
				l.tell("boot %d of %d: %s from exec to passing, %d Vault login(s)", n, o.boots, short(one.total), one.logins)
			}
		}
		if len(boots) > 0 {
			failed = errors.Join(failed, printBoots(o.up.stdout, boots))
		}
		return errors.Join(failed, judge(boots))
	})
}

// judge holds the boots against what is promised.
func judge(boots []boot) error {
	if len(boots) == 0 {
		return nil
	}
	var broken []error
	for n, one := range boots {
		if one.logins != 1 {
			broken = append(broken, fmt.Errorf("boot %d logged in to Vault %d times instead of once", n+1, one.logins))
		}
	}
	if middle := median(totals(boots)); middle >= promise {
		broken = append(broken, fmt.Errorf("the median boot took %s: not under %s", short(middle), short(promise)))
	}
	return errors.Join(broken...)
}

// bootOnce starts an agent where none is registered, measures, and ends it.
func (l *lab) bootOnce(ctx context.Context, program agentProgram) (boot, error) {
	node := l.record.Metadata.VMs[0].Name
	if err := l.awaitGone(ctx, node); err != nil {
		return boot{}, err
	}
	if err := program.clear(ctx); err != nil { // a boot is handed nothing over
		return boot{}, err
	}
	audit, err := size(l.folder.auditLog())
	if err != nil {
		return boot{}, err
	}
	kept, err := os.OpenFile(l.folder.log("pawl"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return boot{}, fmt.Errorf("keep pawl's log: %w", err)
	}
	defer kept.Close()
	// The question is asked before there is anything to see, so that the answer is not late.
	passing := make(chan seen, 1)
	watching, cancel := context.WithTimeout(ctx, servingTimeout)
	defer cancel()
	go func() { passing <- l.awaitPassing(watching, node) }()
	running, err := startAgent(l.launcher, program, kept)
	if err != nil {
		return boot{}, err
	}
	one, err := measure(ctx, running, passing)
	if !errors.Is(err, errAgentEnded) {
		_, stopErr := running.stop()
		err = errors.Join(err, stopErr)
	}
	if err != nil {
		return boot{}, err
	}
	one.logins, err = countLogins(l.folder.auditLog(), audit)
	return one, err
}

// seen is when the servers said passing, or why nobody knows.
type seen struct {
	at  time.Time
	err error
}

// measure waits for passing and for Serving and reads the legs of the way.
func measure(ctx context.Context, running *agent, passing <-chan seen) (boot, error) {
	var there seen
	select {
	case there = <-passing:
	case <-running.ended:
		return boot{}, running.died()
	}
	if ctx.Err() != nil {
		return boot{}, errInterrupted
	}
	if there.err != nil {
		return boot{}, fmt.Errorf("%s is not passing after %s: %w; pawl's log ends with:\n%s", exporterService, servingTimeout, there.err, running.log.tail())
	}
	if _, err := running.awaitServing(ctx, servingTimeout); err != nil {
		return boot{}, err
	}
	report, err := running.report(ctx)
	if err != nil {
		return boot{}, err
	}
	return split(running.began, there.at, report)
}

// split divides a boot into its legs: exec to main, then each arrow's move, and
// the last one to passing at the servers, which the agent then reads back.
func split(began, passing time.Time, report agentReport) (boot, error) {
	one := boot{total: passing.Sub(began)}
	last := report.Started
	one.legs = append(one.legs, leg{"exec -> main", last.Sub(began)})
	for _, step := range report.Moves {
		if step.To == serving {
			one.legs = append(one.legs, leg{step.From + " -> passing", passing.Sub(last)})
			one.after = step.At.Sub(passing)
			for _, action := range report.Actions {
				one.actions = append(one.actions, leg{action.Action, time.Duration(action.Took * float64(time.Second))})
			}
			return one, nil
		}
		one.legs = append(one.legs, leg{step.Event + " (" + step.To + ")", step.At.Sub(last)})
		last = step.At
	}
	return boot{}, errors.New("pawl's report has no move to Serving")
}

// awaitPassing follows the node's checks at the first server until the
// exporter's is passing. Each query blocks at the server until something changed.
func (l *lab) awaitPassing(ctx context.Context, node string) seen {
	at, err := l.follow(ctx, node, func(checks consul.HealthChecks) bool {
		return slices.ContainsFunc(checks, func(check *consul.HealthCheck) bool {
			return check.ServiceName == exporterService && check.Status == consul.HealthPassing
		})
	})
	return seen{at, err}
}

// awaitGone waits until the servers have forgotten the node.
func (l *lab) awaitGone(ctx context.Context, node string) error {
	bounded, cancel := context.WithTimeout(ctx, goneTimeout)
	defer cancel()
	_, err := l.follow(bounded, node, func(checks consul.HealthChecks) bool { return len(checks) == 0 })
	switch {
	case ctx.Err() != nil:
		return errInterrupted
	case bounded.Err() != nil:
		return fmt.Errorf("%s is still in the catalogue %s after pawl left and exited", node, goneTimeout)
	case err != nil:
		return fmt.Errorf("wait for %s to leave the catalogue: %w", node, err)
	}
	return nil
}

// follow asks for the node's checks until wanted says yes, and returns when it did.
func (l *lab) follow(ctx context.Context, node string, wanted func(consul.HealthChecks) bool) (time.Time, error) {
	client := l.consul.clients[0]
	var index uint64
	for {
		checks, meta, err := client.Health().Node(node, (&consul.QueryOptions{WaitIndex: index, WaitTime: time.Minute}).WithContext(ctx))
		now := time.Now()
		switch {
		case err != nil:
			return time.Time{}, err
		case wanted(checks):
			return now, nil
		}
		former := index
		if index = meta.LastIndex; index < former {
			index = 0 // the server's index went backwards: what was waited for means nothing now
		}
		if index == 0 || index == former { // such a query does not block
			select {
			case <-ctx.Done():
				return time.Time{}, ctx.Err()
			case <-time.After(pollEvery):
			}
		}
	}
}

func size(path string) (int64, error) {
	information, err := os.Stat(path)
	if err != nil {
		return 0, fmt.Errorf("read vault's audit log: %w", err)
	}
	return information.Size(), nil
}

func totals(boots []boot) []time.Duration {
	var all []time.Duration
	for _, one := range boots {
		all = append(all, one.total)
	}
	return all
}

// median is the middle, or the mean of the two in the middle. Of nothing it is 0.
func median[T time.Duration | float64](all []T) T {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// medians returns the median of each leg over all boots, in the order of their
// first appearance.
func medians(boots [][]leg) []leg {
	var order []string
	all := map[string][]time.Duration{}
	for _, legs := range boots {
		for _, one := range legs {
			if all[one.name] == nil {
				order = append(order, one.name)
			}
			all[one.name] = append(all[one.name], one.took)
		}
	}
	var middle []leg
	for _, name := range order {
		middle = append(middle, leg{name, median(all[name])})
	}
	return middle
}

// printBoots prints each boot, the spread, and the share of each arrow.
func printBoots(out io.Writer, boots []boot) error {
	var text strings.Builder
	legs, actions := make([][]leg, 0, len(boots)), make([][]leg, 0, len(boots))
	var after []time.Duration
	fmt.Fprintf(&text, "\nexec to %s passing in the servers' catalogue:\n", exporterService)
	for n, one := range boots {
		fmt.Fprintf(&text, "  boot %2d  %7.1f ms  %d login(s)\n", n+1, milliseconds(one.total), one.logins)
		legs, actions, after = append(legs, one.legs), append(actions, one.actions), append(after, one.after)
	}
	all := totals(boots)
	fmt.Fprintf(&text, "  min %.1f ms, median %.1f ms, max %.1f ms over %d boots; promised: a median under %d ms\n\n",
		milliseconds(slices.Min(all)), milliseconds(median(all)), milliseconds(slices.Max(all)), len(boots), promise.Milliseconds())
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "arrow\tmedian ms\tshare\t")
	for _, one := range medians(legs) {
		fmt.Fprintf(table, "%s\t%.1f\t%.0f %%\t\n", one.name, milliseconds(one.took), 100*one.took.Seconds()/max(median(all).Seconds(), 1e-9))
	}
	fmt.Fprintf(table, "(passing -> Serving)\t%.1f\t\t\n", milliseconds(median(after)))
	fmt.Fprintln(table, "\t\t\t")
	fmt.Fprintln(table, "attempt\tmedian ms\t\t")
	for _, one := range medians(actions) {
		fmt.Fprintf(table, "%s\t%.1f\t\t\n", one.name, milliseconds(one.took))
	}
	_ = table.Flush()
	_, err := io.WriteString(out, text.String())
	return err
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
