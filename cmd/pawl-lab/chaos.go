package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// fault is one row of the table: one trouble, made for a running agent on a lab
// of its own, and what must come of it.
type fault struct {
	// number is the catalogue's; name is what --only takes.
	number, name string
	// how says in a line what is done, for the table.
	how string
	// keeps says what must keep working, beside what is checked in every row:
	// the process, its metrics, its registration, and the way back.
	keeps string

	// ttl, servers and spares are of the row's lab. No ttl: production's.
	ttl             time.Duration
	servers, spares int
	// way is how the agent reaches Vault.
	way way
	// long rows last for minutes: made with --long, or by name.
	long bool
	// recorded rows run the agent that records its log.
	recorded bool
	// network rows need a network namespace of their own, and so root.
	network bool
	// environment is put into the agent's.
	environment []string

	// age is how long the agent serves before the fault.
	age time.Duration
	// atBoot injects before the agent is started, else once it serves.
	atBoot bool
	inject func(context.Context, *scene) error
	// until must be read in the agent's log before the fault is taken away: a line
	// for each, with all of its words. hold is how much longer the fault lasts.
	until []words
	hold  time.Duration
	// during is checked just before the fault is taken away.
	during func(context.Context, *scene) error
	heal   func(context.Context, *scene) error
	// within bounds the way back to Serving, from the fault's end. Zero: soon.
	within time.Duration

	// must and mustNot are states on the walk.
	must, mustNot []string
	// says must be in the log at the end, as until.
	says []words
	// exporterHit: the fault takes node_exporter itself, so that scrapes are lost.
	exporterHit bool
	// consulForgets: the fault takes the registration out of Consul itself.
	consulForgets bool
	// check is the last word; what it returns is shown in the table.
	check func(context.Context, *scene) (string, error)
}

// words are fragments that one line of the log must have, all of them.
type words []string

// way is how the agent reaches Vault.
type way string

const (
	direct         way = ""
	wired          way = "wire"    // faults.Wire between: troubles of TCP
	throughGateway way = "gateway" // faults.Gateway between: troubles of HTTP
)

const (
	// brisk is the TTL of labs in which things are due while a person waits. The
	// Vault token lasts half of it and is renewed at 15 to 20 s, the next epoch is due
	// at 30 to 40 s. So the token lasts for 9 s and more after a failed renewal, and the
	// first attempt after a fault that was taken away 3 s later comes within 8.7 s,
	// transient (0.5, 1, 2, 4 s and a quarter) or config (2, 4 s): it costs no credential.
	brisk = 60 * time.Second
	// soon is the way back from what is transient: the worst of issue 3.
	soon = 15 * time.Second
	// patient is the way back from what a person had to mend: asked once a minute at the least.
	patient = 80 * time.Second
	// noticed bounds the wait for what until wants: the longest is the next epoch of the slowest lab.
	noticed = 2 * time.Minute
)

// The states that rows name, beside serving and renewing.
const (
	noIdentity  = "NoIdentity"
	hasJWT      = "HasJWT"
	vaultAuthed = "VaultAuthed"
	consulReady = "ConsulReady"
	degraded    = "Degraded"
)

// fallen are the states of an agent that lost something which it need not have lost.
var fallen = []string{noIdentity, hasJWT, vaultAuthed, consulReady}

// into are the words of a move to a state.
func into(state string) words { return words{"msg=moved", "to=" + state} }

// faultTable is all of them, in the order in which they are made.
func faultTable() []fault {
	return slices.Concat(vaultFaults(), answerFaults(), configurationFaults(), bootFaults(), consulFaults(), metadataFaults(), processFaults(), networkFaults(), longFaults())
}

// chaosOptions are the flags of `chaos`.
type chaosOptions struct {
	up upOptions
	// only names rows, by name or number; nil: all.
	only []string
	list bool
	// long makes the rows too that last for minutes.
	long bool
	// atOnce is how many faults are made side by side, each in namespaces of its own.
	atOnce int
	// results is the file that a child of `chaos` leaves what it found in.
	results string
}

// defaultAtOnce keeps two cores busy: most of a fault is waiting.
const defaultAtOnce = 4

// chosen returns the rows to make.
func (o chaosOptions) chosen() ([]fault, error) {
	if o.atOnce < 1 {
		return nil, usageError{fmt.Sprintf("--at-once %d: at least 1", o.atOnce)}
	}
	var chosen []fault
	left := slices.Clone(o.only)
	for _, row := range faultTable() {
		is := func(name string) bool {
			return strings.EqualFold(name, row.name) || strings.EqualFold(name, row.number)
		}
		switch {
		case len(o.only) > 0 && !slices.ContainsFunc(o.only, is):
			continue
		case row.long && !o.long && !slices.ContainsFunc(o.only, func(name string) bool { return strings.EqualFold(name, row.name) }):
			left = slices.DeleteFunc(left, is)
			continue
		}
		left = slices.DeleteFunc(left, is)
		chosen = append(chosen, row)
	}
	if len(left) > 0 {
		return nil, usageError{fmt.Sprintf("no fault %q; `pawl-lab chaos --list` lists them", left)}
	}
	return chosen, nil
}

// chaos makes the chosen faults, prints what came of them, and fails where one
// did not come out as its row says.
func chaos(ctx context.Context, o chaosOptions) error {
	rows, err := o.chosen()
	if err != nil {
		return err
	}
	if o.list {
		return listFaults(o.up.stdout, rows)
	}
	home, err := openFolder(o.up.folder)
	if err != nil {
		return err
	}
	unlock, err := home.lock() // makes it a lab's
	if err != nil {
		return err
	}
	unlock()
	if o.results != "" {
		return o.child(ctx, home, rows)
	}
	began := time.Now()
	var results []result
	if lacks := mayNamespace(); lacks == nil {
		results = o.sideBySide(ctx, home, rows)
	} else {
		fmt.Fprintf(o.up.stderr, "chaos: one at a time, and without the faults that need a network namespace (%s)\n", strings.ReplaceAll(lacks.Error(), "\n", "; "))
		for _, row := range rows {
			one := o.make(ctx, home, row)
			if ctx.Err() != nil {
				break
			}
			fmt.Fprintf(o.up.stderr, "chaos: %s\n", one.line())
			results = append(results, one)
		}
	}
	if ctx.Err() != nil {
		return errInterrupted
	}
	return errors.Join(printChaos(o.up.stdout, results, time.Since(began)), judgeChaos(results))
}

// make makes one fault in a lab of its own.
func (o chaosOptions) make(ctx context.Context, home folder, row fault) (made result) {
	made.fault = row
	began := time.Now()
	if row.network && !ownNamespace() {
		made.Skipped = needsNamespace
		return made
	}
	kept, err := openLog(home.path("chaos"), row.name)
	if err != nil {
		made.fail(err)
		return made
	}
	defer kept.Close()
	made.Log = kept.Name()
	up := o.up
	up.folder = string(home)
	up.ttl, up.servers, up.spares, up.vms = row.ttl, max(row.servers, 1), row.spares, 1
	up.stdout, up.stderr = io.Discard, kept
	made.fail(withAgent(ctx, up, func(ctx context.Context, l *lab, program agentProgram) error {
		s := &scene{fault: row, lab: l, program: program, log: newChronicle(kept), result: &made, authority: o.up.authority}
		defer s.end()
		s.program.environment = row.environment
		if row.recorded {
			if err := s.recordTo(strings.TrimSuffix(kept.Name(), ".log") + ".jsonl"); err != nil {
				return err
			}
		}
		return s.play(ctx)
	}))
	made.Took = time.Since(began)
	return made
}

// openLog opens a row's log, anew.
func openLog(folder, name string) (*os.File, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("keep a fault's log: %w", err)
	}
	file, err := os.OpenFile(folder+"/"+name+".log", os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("keep a fault's log: %w", err)
	}
	return file, nil
}
