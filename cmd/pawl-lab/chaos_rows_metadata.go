package main

import (
	"context"
	"os"
	"time"

	"pawl/internal/faults"
)

// metadataFaults: who says who we are, and whose keys Vault reads.
func metadataFaults() []fault {
	return []fault{
		{number: "F8", name: "metadata-down-at-boot", how: "the JWT service is stopped, and started 10 s after the boot", keeps: "metrics and status", atBoot: true,
			inject: inLab("stop", "metadata"), until: []words{{"msg=failed", "action=fetch_jwt", "class=transient", "nothing listens there"}}, hold: 10 * time.Second, heal: inLab("start", "metadata")},
		{number: "F8", name: "metadata-down-at-login", how: "the JWT service is killed when a new epoch is due", keeps: allKept, ttl: brisk,
			inject: inLab("kill", "metadata"), until: []words{into(degraded)}, hold: held, during: standing("metadata_unreachable"), heal: inLab("start", "metadata"), mustNot: fallen},
		{number: "F8", name: "metadata-paused", how: "the JWT service: SIGSTOP when a new epoch is due", keeps: allKept, ttl: slow,
			inject: inLab("pause", "metadata"), until: []words{into(degraded)}, hold: held, heal: inLab("resume", "metadata"), mustNot: fallen},
		{number: "F21", name: "jwks-unreachable", how: "Vault, just restarted, cannot fetch the JWT service's keys", keeps: allKept, ttl: brisk,
			inject: hideKeys, until: []words{{"msg=failed", "action=log_in", "class=transient"}, into(degraded)}, hold: held, heal: showKeys, mustNot: fallen},
		{number: "F21", name: "signing-key-replaced", how: "the JWT service restarted with a new key, the old one not published any more", keeps: allKept, ttl: brisk,
			inject: replaceSigningKey, hold: brisk, mustNot: fallen, check: sameAgent},
	}
}

// hideKeys has Vault read the keys through a wire, cuts it, and makes Vault forget them.
func hideKeys(ctx context.Context, s *scene) (err error) {
	if s.jwks, err = faults.ListenWire(jwksWire, metadataAddress); err != nil {
		return err
	}
	s.closers = append(s.closers, func() { _ = s.jwks.Close() })
	for _, one := range []deed{
		vaultWrite("auth/jwt/config", map[string]any{"jwks_url": "http://" + jwksWire + "/.well-known/jwks.json", "bound_issuer": metadataURL, "jwt_supported_algs": []string{"ES256"}}),
		func(context.Context, *scene) error { s.jwks.Set(faults.Trouble{Reset: true}); return nil },
		inLab("kill", "vault"), inLab("start", "vault"),
	} {
		if err := one(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func showKeys(_ context.Context, s *scene) error {
	s.jwks.Set(faults.Trouble{})
	return nil
}

// replaceSigningKey has the JWT service sign with another key from now on.
func replaceSigningKey(ctx context.Context, s *scene) error {
	if err := inLab("kill", "metadata")(ctx, s); err != nil {
		return err
	}
	if err := os.RemoveAll(s.lab.folder.path("metadata", "keys")); err != nil {
		return err
	}
	return inLab("start", "metadata")(ctx, s)
}
