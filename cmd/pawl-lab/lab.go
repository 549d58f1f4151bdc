package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
)

// lab is a running lab. Safe from any goroutine once it is up.
type lab struct {
	folder     folder
	names      *nameServer
	vault      *vaultServer
	consul     *consulServers
	components map[string]component
	launcher   *launcher
	// order is how status lists the components; ending is the reverse. spares are
	// the names in it that are not started with the lab.
	order  []string
	spares []string
	stderr io.Writer

	mutex  sync.Mutex
	record record
	up     bool
}

// add puts a component at the end of the order.
func (l *lab) add(name string, one component) {
	l.components[name] = one
	l.order = append(l.order, name)
}

// parts are the names of what is started with the lab.
func (l *lab) parts() []string {
	return slices.DeleteFunc(slices.Clone(l.order), func(name string) bool { return slices.Contains(l.spares, name) })
}

// component finds a part by its name or alias.
func (l *lab) component(name string) (component, error) {
	if name == "consul" {
		name = consulNode(1)
	}
	one, found := l.components[name]
	if !found {
		return nil, fmt.Errorf("no %q in this lab; it has %s", name, strings.Join(l.order, ", "))
	}
	return one, nil
}

// verbs are the orders that name components.
var verbs = map[string]func(component, context.Context) error{
	"start":  component.start,
	"stop":   component.stop,
	"kill":   component.kill,
	"pause":  component.pause,
	"resume": component.resume,
}

// obey carries out one order and returns when it is so.
func (l *lab) obey(ctx context.Context, given order) error {
	switch given.Command {
	case "seal":
		return l.vault.seal(ctx)
	case "unseal":
		return l.vault.unseal(ctx)
	case "dns":
		if len(given.Names) != 2 {
			return errors.New("dns wants NAME and ADDR[,ADDR]")
		}
		addresses, err := parseAddresses(given.Names[1])
		if err != nil {
			return err
		}
		l.names.set(given.Names[0], addresses)
		return nil
	}
	verb, known := verbs[given.Command]
	if !known {
		return fmt.Errorf("no order %q", given.Command)
	}
	var chosen []component
	for _, name := range given.Names {
		one, err := l.component(name)
		if err != nil {
			return err
		}
		chosen = append(chosen, one)
	}
	// Together: of three servers that are started, none has a leader before the second.
	err := together(chosen, func(one component) error { return verb(one, ctx) })
	return errors.Join(err, l.save())
}

// together does the same with each, at once, and returns every error.
func together[T any](chosen []T, work func(T) error) error {
	results := make([]error, len(chosen))
	var group sync.WaitGroup
	for i, one := range chosen {
		group.Go(func() { results[i] = work(one) })
	}
	group.Wait()
	return errors.Join(results...)
}

// save brings lab.json up to date. Before the lab is up there is nothing to save.
func (l *lab) save() error {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if !l.up {
		return nil
	}
	l.record.Processes = l.reports()
	for path, token := range map[string]string{
		l.folder.token("vault"):  l.record.Vault.RootToken,
		l.folder.token("consul"): l.record.Consul.ManagementToken,
	} {
		if err := replaceFile(path, []byte(token+"\n"), 0o600); err != nil {
			return fmt.Errorf("write a token for curl: %w", err)
		}
	}
	return l.record.write(l.folder.record())
}

func (l *lab) reports() []processReport {
	var all []processReport
	for _, name := range l.order {
		all = append(all, l.components[name].report())
	}
	return all
}

// report is the answer to `status`.
func (l *lab) report(ctx context.Context) report {
	bounded, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	answer := report{
		PID: os.Getpid(), Folder: string(l.folder), TTL: l.record.TTL,
		Processes: l.reports(), DNS: map[string][]string{},
	}
	for name, addresses := range l.names.snapshot() {
		for _, address := range addresses {
			answer.DNS[name] = append(answer.DNS[name], address.String())
		}
	}
	var group sync.WaitGroup
	group.Go(func() { answer.Vault = l.vault.state(bounded) })
	group.Go(func() { answer.ConsulLeader = l.consul.leader(bounded) })
	group.Wait()
	return answer
}

// describeRecords writes DNS records as name=address,address, sorted.
func describeRecords(records map[string][]string) []string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(records)) {
		all = append(all, strings.TrimSuffix(name, ".")+"="+strings.Join(records[name], ","))
	}
	return all
}

// end stops everything, the last started first, and kills what does not stop.
func (l *lab) end(ctx context.Context) error {
	var parts []component
	for _, name := range l.order {
		parts = append(parts, l.components[name])
	}
	// Vault first: a stopping Vault may still talk to the others.
	if one, found := l.components["vault"]; found {
		_ = one.stop(ctx)
	}
	return together(parts, func(one component) error {
		if err := one.stop(ctx); err != nil {
			return errors.Join(err, one.kill(ctx))
		}
		return nil
	})
}

// tell says what goes on, a line, to the person at the terminal.
func (l *lab) tell(format string, values ...any) {
	fmt.Fprintf(l.stderr, "pawl-lab: "+format+"\n", values...)
}

// note tells of a change that nobody asked for, and brings lab.json up to date.
func (l *lab) note(text string) {
	l.tell("%s", text)
	if err := l.save(); err != nil {
		l.tell("%v", err)
	}
}
