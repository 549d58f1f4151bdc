package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/vault/api"
)

// vaultServer talks to the lab's Vault with its root token. Safe from any goroutine.
type vaultServer struct {
	client *api.Client

	mutex     sync.Mutex
	unsealKey string // empty before initialise
}

func newVaultServer(caFile string) (*vaultServer, error) {
	configuration := api.DefaultConfig()
	if configuration.Error != nil {
		return nil, fmt.Errorf("make vault client: %w", configuration.Error)
	}
	configuration.Address = "https://" + vaultAddress
	configuration.MaxRetries = 0 // whoever waits for Vault here asks again himself
	if err := configuration.ConfigureTLS(&api.TLSConfig{CACert: caFile}); err != nil {
		return nil, fmt.Errorf("make vault client: %w", err)
	}
	client, err := api.NewClient(configuration)
	if err != nil {
		return nil, fmt.Errorf("make vault client: %w", err)
	}
	return &vaultServer{client: client}, nil
}

// initialise makes a new Vault, unseals it and turns its audit log on. It
// returns the root token, which the client uses from then on, and the unseal key.
func (v *vaultServer) initialise(ctx context.Context, auditLog string) (rootToken, unsealKey string, err error) {
	made, err := v.client.Sys().InitWithContext(ctx, &api.InitRequest{SecretShares: 1, SecretThreshold: 1})
	if err != nil {
		return "", "", fmt.Errorf("initialise vault: %w", err)
	}
	v.mutex.Lock()
	v.unsealKey = made.KeysB64[0]
	v.mutex.Unlock()
	v.client.SetToken(made.RootToken)
	if err := retry(ctx, nil, v.ready); err != nil {
		return "", "", fmt.Errorf("unseal vault: %w", err)
	}
	err = v.client.Sys().EnableAuditWithOptionsWithContext(ctx, "file", &api.EnableAuditOptions{
		Type: "file",
		// Accessors in plain: tests follow a token from its login to its revocation.
		Options: map[string]string{"file_path": auditLog, "mode": "0600", "hmac_accessor": "false"},
	})
	if err != nil {
		return "", "", fmt.Errorf("turn vault's audit log on: %w", err)
	}
	return made.RootToken, made.KeysB64[0], nil
}

// answers is one attempt to get any answer, sealed or not.
func (v *vaultServer) answers(ctx context.Context) error {
	_, err := v.client.Sys().SealStatusWithContext(ctx)
	return err
}

// ready is one attempt to see Vault at work, and unseals it on the way. A Vault
// that is not initialised is as ready as it can be.
func (v *vaultServer) ready(ctx context.Context) error {
	status, err := v.client.Sys().SealStatusWithContext(ctx)
	if err != nil {
		return err
	}
	v.mutex.Lock()
	key := v.unsealKey
	v.mutex.Unlock()
	if !status.Initialized && key == "" {
		return nil
	}
	if status.Sealed {
		if _, err := v.client.Sys().UnsealWithContext(ctx, key); err != nil {
			return fmt.Errorf("unseal vault: %w", err)
		}
	}
	health, err := v.client.Sys().HealthWithContext(ctx)
	if err != nil {
		return err
	}
	if health.Sealed || health.Standby || !health.Initialized {
		return errors.New("vault is not active yet")
	}
	return nil
}

// seal seals Vault and returns when it says so itself.
func (v *vaultServer) seal(ctx context.Context) error {
	if err := v.client.Sys().SealWithContext(ctx); err != nil {
		return fmt.Errorf("seal vault: %w", err)
	}
	sealed := func(ctx context.Context) error {
		status, err := v.client.Sys().SealStatusWithContext(ctx)
		if err == nil && !status.Sealed {
			err = errors.New("vault is not sealed yet")
		}
		return err
	}
	return retry(ctx, nil, sealed)
}

func (v *vaultServer) unseal(ctx context.Context) error {
	if err := v.answers(ctx); err != nil {
		return fmt.Errorf("unseal vault: %w; start or resume it first", err)
	}
	return retry(ctx, nil, v.ready)
}

// state says in a word how Vault is, for status.
func (v *vaultServer) state(ctx context.Context) string {
	status, err := v.client.Sys().SealStatusWithContext(ctx)
	switch {
	case err != nil:
		return "silent"
	case status.Sealed:
		return "sealed"
	default:
		return "unsealed"
	}
}
