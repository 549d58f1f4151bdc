// Command pawl-metadata is the JWT service: it tells Vault, in a signed token,
// which VM is asking. It owns its flags, its signals and the reading of its
// files; who gets what is decided in internal/metadata/server. It must import
// nothing else of this project.
//
// SIGHUP reads the inventory again, and a bad one changes nothing. SIGTERM and
// SIGINT end it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"pawl/internal/metadata/server"
)

// The exit codes: 1 when it could not start or serve, 2 when it was called wrongly.
const (
	exitFailed = 1
	exitUsage  = 2
)

// flags is what the command line says.
type flags struct {
	listen, issuer, inventory, keys string
	audiences                       []string
	ttl                             time.Duration
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	given, err := parseFlags(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "pawl-metadata:", err)
		os.Exit(exitUsage)
	}
	if err := run(ctx, given, log); err != nil {
		log.Error("ended", "error", err)
		os.Exit(exitFailed)
	}
	log.Info("ended")
}

// parseFlags reads the command line. Every flag but --ttl must be given: where
// identities come from is nothing to guess.
func parseFlags(arguments []string) (flags, error) {
	var given flags
	set := flag.NewFlagSet("pawl-metadata", flag.ContinueOnError)
	set.StringVar(&given.listen, "listen", "", "`address` to listen on, IP:port")
	set.StringVar(&given.issuer, "issuer", "", "`URL` that tokens name as their issuer")
	set.StringVar(&given.inventory, "inventory", "", "`file` of the VMs, YAML or JSON")
	set.StringVar(&given.keys, "keys", "", "`folder` of the signing key, made when missing")
	set.DurationVar(&given.ttl, "ttl", 5*time.Minute, "how long a token lasts")
	set.Func("audience", "`name` a token may be for; repeat for more", func(name string) error {
		given.audiences = append(given.audiences, name)
		return nil
	})
	if err := set.Parse(arguments); err != nil {
		return flags{}, err
	}
	if set.NArg() > 0 {
		return flags{}, fmt.Errorf("unexpected argument %q", set.Arg(0))
	}
	for _, needed := range []struct{ name, value string }{{"listen", given.listen}, {"issuer", given.issuer}, {"inventory", given.inventory}, {"keys", given.keys}} {
		if needed.value == "" {
			return flags{}, fmt.Errorf("--%s is missing; see --help", needed.name)
		}
	}
	return given, nil
}

// run serves until ctx ends.
func run(ctx context.Context, given flags, log *slog.Logger) error {
	// From here on SIGHUP means reload: its default would end the service.
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)

	inventory, err := readInventory(given.inventory)
	if err != nil {
		return err
	}
	key, err := server.LoadKey(given.keys)
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", given.listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	service, err := server.New(server.Settings{
		Issuer: given.issuer, Listen: given.listen, Audiences: given.audiences, TTL: given.ttl, Key: key, Inventory: inventory, Log: log,
	})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	log.Info("listening", "address", listener.Addr().String(), "issuer", given.issuer, "machines", inventory.Len(), "kid", key.ID())

	ctx, cancel := context.WithCancel(ctx)
	reloading := make(chan struct{})
	go func() {
		defer close(reloading)
		reload(ctx, hangup, given.inventory, service, log)
	}()
	err = service.Serve(ctx, listener)
	cancel()
	<-reloading
	return err
}

// reload puts a new inventory in place at every SIGHUP, until ctx ends.
func reload(ctx context.Context, hangup <-chan os.Signal, path string, service *server.Server, log *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
			inventory, err := readInventory(path)
			if err != nil {
				log.Error("inventory refused, the former one stays", "error", err)
				continue
			}
			service.Replace(inventory)
			log.Info("inventory read", "machines", inventory.Len())
		}
	}
}

func readInventory(path string) (*server.Inventory, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the inventory: %w", err)
	}
	return server.ParseInventory(text, path)
}
