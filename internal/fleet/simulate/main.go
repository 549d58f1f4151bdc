// Command simulate runs the fleet's scenarios under pawl's policy and under vault
// agent's, prints a table and draws the load curves: `make fleet` runs it. It owns
// its flags and files; what it runs is internal/fleet's. It must never import the
// machine itself.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"pawl/internal/fleet"
)

func main() {
	if err := run(os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "fleet:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	flags := flag.NewFlagSet("fleet", flag.ContinueOnError)
	out := flags.String("out", ".fleet", "folder for fleet.svg and fleet.txt")
	agents := flags.Int("agents", 10000, "how many VMs")
	length := flags.Duration("length", 30*time.Minute, "how long Vault is away")
	seeds := flags.Int("seeds", 1000, "how many outages of a site with one VM")
	seed := flags.Uint64("seed", 1, "decides the whole of a run")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	// The machines are many and their garbage short-lived: memory is cheaper here than time.
	debug.SetGCPercent(400)
	if err := os.MkdirAll(*out, 0o755); err != nil {
		return fmt.Errorf("make the folder for the results: %w", err)
	}
	began := time.Now()
	fmt.Printf("seed %d, %d VMs; this takes a few minutes\n", *seed, *agents)

	scenarios := fleet.Report(*agents, *length, *seed)
	var jobs []job
	for _, scenario := range scenarios {
		jobs = append(jobs, job{scenario, fleet.Pawl}, job{scenario, fleet.VaultAgent})
	}
	alone := len(jobs)
	for i := range *seeds {
		jobs = append(jobs, job{fleet.Alone(*seed + uint64(i)), fleet.Pawl})
	}
	results, err := all(jobs)
	if err != nil {
		return err
	}
	table := slices.Clone(results[:alone])
	if alone < len(results) {
		table = append(table, fleet.Merged(results[alone:]))
	}
	text, err := os.Create(filepath.Join(*out, "fleet.txt"))
	if err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	defer text.Close()
	for _, to := range []*os.File{os.Stdout, text} {
		if err := fleet.WriteTable(to, table); err != nil {
			return fmt.Errorf("write the table: %w", err)
		}
	}
	chart := fleet.Chart{
		Title:    fmt.Sprintf("%d VMs ask one Vault at once", *agents),
		Subtitle: "Offered load, each second, in VMs' worth: what one VM asks to come back, from login to Consul token, is 1",
		Panels: []fleet.Panel{
			{Title: "After an " + scenarios[0].Name + ", every token expired", Results: results[0:2], Before: 20, After: 300},
			{Title: "All VMs boot within one second", Results: results[2:4], After: 90},
		},
	}
	image, err := os.Create(filepath.Join(*out, "fleet.svg"))
	if err != nil {
		return fmt.Errorf("draw the curves: %w", err)
	}
	defer image.Close()
	if _, err := chart.WriteTo(image); err != nil {
		return fmt.Errorf("draw the curves: %w", err)
	}
	fmt.Printf("the load curves are in %s; all of it took %s\n", image.Name(), time.Since(began).Round(time.Second))
	return nil
}

// job is one simulation to run.
type job struct {
	scenario fleet.Scenario
	policy   fleet.Policy
}

// all runs the jobs, two at a time, and returns their results in order.
func all(jobs []job) ([]fleet.Result, error) {
	results, errs := make([]fleet.Result, len(jobs)), make([]error, len(jobs))
	next := make(chan int)
	var workers sync.WaitGroup
	for range 2 {
		workers.Go(func() {
			for i := range next {
				results[i], errs[i] = fleet.Run(jobs[i].scenario, jobs[i].policy)
			}
		})
	}
	for i := range jobs {
		next <- i
	}
	close(next)
	workers.Wait()
	return results, errors.Join(errs...)
}
