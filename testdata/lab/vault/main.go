// Command vault is the real Vault of the lab: hashicorp/vault's own core and HTTP
// handler, with the jwt, kv, pki and consul builtins and nothing else. It owns
// its storage folder; initialising, unsealing and auditing happen over the
// ordinary API. It must import nothing of the pawl module: it is in a module of
// its own, so that Vault's dependencies never reach the agent's.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/audit"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/sdk/physical/file"
	"github.com/hashicorp/vault/vault"
)

// shutdownTimeout bounds how long open requests may hold up the end.
const shutdownTimeout = 3 * time.Second

type options struct{ folder, listen, certificate, key, resolver, level string }

func main() {
	var o options
	flag.StringVar(&o.folder, "folder", "", "storage folder; survives a kill")
	flag.StringVar(&o.listen, "listen", "127.0.0.1:8200", "address of the TLS listener")
	flag.StringVar(&o.certificate, "cert", "", "PEM file of the listener's certificate chain")
	flag.StringVar(&o.key, "key", "", "PEM file of its key")
	flag.StringVar(&o.resolver, "resolver", "", "DNS server that knows the lab's names; empty: the system's")
	flag.StringVar(&o.level, "log-level", "info", "trace, debug, info, warn or error")
	flag.Parse()
	if o.folder == "" || o.certificate == "" || o.key == "" || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "usage: lab-vault --folder DIR --cert FILE --key FILE [--listen ADDRESS] [--resolver ADDRESS] [--log-level LEVEL]")
		os.Exit(64)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "lab-vault:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends, then seals: what is on disk is complete.
func run(ctx context.Context, o options) error {
	logger := hclog.New(&hclog.LoggerOptions{Name: "vault", Output: os.Stderr, Level: hclog.LevelFromString(o.level)})
	if o.resolver != "" {
		// Vault's Consul engine dials with the default resolver; Consul's servers have a name of the lab's.
		net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, o.resolver)
		}}
	}
	certificate, err := tls.LoadX509KeyPair(o.certificate, o.key)
	if err != nil {
		return fmt.Errorf("load listener certificate: %w", err)
	}
	if err := os.MkdirAll(o.folder, 0o700); err != nil {
		return fmt.Errorf("make storage folder: %w", err)
	}
	storage, err := file.NewFileBackend(map[string]string{"path": o.folder}, logger.Named("storage"))
	if err != nil {
		return fmt.Errorf("open storage: %w", err)
	}
	core, err := vault.NewCore(&vault.CoreConfig{
		Physical:           storage,
		StorageType:        "file",
		LogicalBackends:    logicalBackends(),
		CredentialBackends: credentialBackends(),
		AuditBackends:      map[string]audit.Factory{"file": audit.NewFileBackend},
		BuiltinRegistry:    builtins{},
		Logger:             logger,
		// The lab runs as an ordinary user, who may not lock memory.
		DisableMlock: true,
		ClusterName:  "pawl-lab",
		RedirectAddr: "https://" + o.listen,
	})
	if err != nil {
		return fmt.Errorf("build core: %w", err)
	}
	listener, err := net.Listen("tcp", o.listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	server := &http.Server{
		Handler: vaulthttp.Handler.Handler(&vault.HandlerProperties{
			Core:           core,
			ListenerConfig: &configutil.Listener{Type: "tcp", Address: o.listen},
		}),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		IdleTimeout:       5 * time.Minute,
		ErrorLog:          logger.StandardLogger(&hclog.StandardLoggerOptions{InferLevels: true}),
		TLSConfig: &tls.Config{
			Certificates: []tls.Certificate{certificate},
			MinVersion:   tls.VersionTLS12,
		},
	}
	served := make(chan error, 1)
	go func() { served <- server.ServeTLS(listener, "", "") }()
	logger.Info("listening", "address", listener.Addr())

	select {
	case err := <-served:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	bounded, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(bounded); err != nil {
		_ = server.Close()
	}
	if err := core.Shutdown(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("seal: %w", err)
	}
	return nil
}
