package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	consul "github.com/hashicorp/consul/api"

	"pawl/internal/faults"
)

// deed is what a row does: to inject, to heal, or to look.
type deed = func(context.Context, *scene) error

// inOrder does one after the other.
func inOrder(deeds ...deed) deed {
	return func(ctx context.Context, s *scene) error {
		for _, one := range deeds {
			if err := one(ctx, s); err != nil {
				return err
			}
		}
		return nil
	}
}

// lab gives an order to the lab.
func inLab(command string, names ...string) deed {
	return func(ctx context.Context, s *scene) error {
		return s.lab.obey(ctx, order{Command: command, Names: names})
	}
}

// answering has the gateway answer so; nothing heals.
func answering(answer faults.Answer) deed {
	return func(_ context.Context, s *scene) error {
		s.gateway.Set(answer)
		return nil
	}
}

// troubling has the wire make trouble; nothing heals.
func troubling(trouble faults.Trouble) deed {
	return func(_ context.Context, s *scene) error {
		s.wire.Set(trouble)
		return nil
	}
}

// vaultWrite writes to Vault as its operator.
func vaultWrite(path string, data map[string]any) deed {
	return asOperator(func(ctx context.Context, s *scene) error {
		_, err := s.lab.vault.client.Logical().WriteWithContext(ctx, path, data)
		return err
	})
}

// vaultDelete deletes at Vault as its operator.
func vaultDelete(path string) deed {
	return asOperator(func(ctx context.Context, s *scene) error {
		_, err := s.lab.vault.client.Logical().DeleteWithContext(ctx, path)
		return err
	})
}

// asOperator asks again while a rate limit that we set ourselves holds us off too.
func asOperator(request deed) deed {
	return func(ctx context.Context, s *scene) error {
		var refused error
		err := retry(ctx, nil, func(ctx context.Context) error {
			if refused = request(ctx, s); refused != nil && strings.Contains(refused.Error(), "Code: 429") {
				return refused
			}
			return nil
		})
		if err == nil {
			err = refused
		}
		return err
	}
}

// apply writes a file of deploy/vault again, as the lab did.
func apply(file string) deed { return applyWith(file, nil) }

// applyWith writes it with other values in some of its fields.
func applyWith(file string, override map[string]any) deed {
	return func(ctx context.Context, s *scene) error {
		at := slices.IndexFunc(vaultSteps, func(one step) bool { return one.file == file })
		if at < 0 {
			return fmt.Errorf("no step for %s", file)
		}
		values := s.lab.values()
		values["JWT_ACCESSOR"] = s.lab.record.Vault.JWTAccessor
		text, err := render(file, values, s.ttl)
		if err != nil {
			return err
		}
		if text, err = shorten(text, override); err != nil {
			return err
		}
		_, err = writeVault(ctx, s.lab.vault.client, vaultSteps[at].path, text)
		return err
	}
}

// consulWrites are the options of what the operator writes at Consul.
func consulWrites(ctx context.Context) *consul.WriteOptions {
	return (&consul.WriteOptions{}).WithContext(ctx)
}

// deleteConsulToken deletes the agent's token at Consul, behind everybody's back.
func deleteConsulToken(ctx context.Context, s *scene) error {
	_, err := s.lab.consul.clients[0].ACL().TokenDelete(s.before.id("consul_token"), consulWrites(ctx))
	return err
}

// revokeVaultToken revokes the agent's token at Vault, and so its Consul token.
func revokeVaultToken(ctx context.Context, s *scene) error {
	return vaultWrite("auth/token/revoke-accessor", map[string]any{"accessor": s.before.id("vault_token")})(ctx, s)
}

// consulPolicy gives the agent's policy at Consul other rules.
func consulPolicy(rules string) deed {
	return func(ctx context.Context, s *scene) error {
		acl := s.lab.consul.clients[0].ACL()
		policy, _, err := acl.PolicyReadByName("pawl", (&consul.QueryOptions{}).WithContext(ctx))
		if err != nil {
			return err
		}
		policy.Rules = rules
		_, _, err = acl.PolicyUpdate(policy, consulWrites(ctx))
		return err
	}
}

// replaced checks that what is held of a thing is another one now.
func replaced(thing string) func(context.Context, *scene) (string, error) {
	return func(ctx context.Context, s *scene) (string, error) {
		now, err := s.status(ctx)
		if err == nil && now.id(thing) == s.before.id(thing) {
			err = fmt.Errorf("%s is still the one of before", thing)
		}
		return "", err
	}
}

// untouched checks that no credential was replaced and no service restarted.
func untouched(ctx context.Context, s *scene) (string, error) {
	now, err := s.status(ctx)
	if err != nil {
		return "", err
	}
	for _, thing := range []string{"vault_token", "consul_token", "certificate"} {
		if now.id(thing) != s.before.id(thing) {
			err = errors.Join(err, fmt.Errorf("%s was replaced", thing))
		}
	}
	return "nothing re-issued", errors.Join(err, notRestarted(now))
}

// sameAgent checks that the embedded agent runs on since it was started first.
func sameAgent(ctx context.Context, s *scene) (string, error) {
	now, err := s.status(ctx)
	return "", errors.Join(err, notRestarted(now))
}

func notRestarted(now chaosReport) error {
	for _, one := range now.Services {
		if one.Restarts > 0 {
			return fmt.Errorf("service %s was restarted %d times", one.Name, one.Restarts)
		}
	}
	return nil
}

// standing checks, while the fault lasts, that a reason is named.
func standing(reason string) deed {
	return func(ctx context.Context, s *scene) error {
		now, err := s.status(ctx)
		if err == nil && !now.because(reason) {
			err = fmt.Errorf("pawl status does not name %s; it names %v", reason, now.Reasons)
		}
		return err
	}
}

// notReady checks, while the fault lasts, that `ready` does not lie.
func notReady(ctx context.Context, s *scene) error {
	now, err := s.status(ctx)
	if err == nil && now.Ready {
		err = errors.New("pawl status says ready")
	}
	return err
}

const (
	// rateWindow and mostRequests bound what an agent in trouble may ask of Vault:
	// no chain of retries spins (law 5).
	rateWindow   = 10 * time.Second
	mostRequests = 40
)

// unhurried checks that the gateway was not asked in haste, and that a
// Retry-After was honoured.
func unhurried(ctx context.Context, s *scene) (string, error) {
	visits := slices.DeleteFunc(s.gateway.Visits(), func(one faults.Visit) bool { return one.At.Before(s.injected) })
	most := 0
	for i, first := range visits {
		in := 0
		for _, one := range visits[i:] {
			if one.At.Sub(first.At) < rateWindow {
				in++
			}
		}
		most = max(most, in)
	}
	if most > mostRequests {
		return "", fmt.Errorf("%d requests within %s", most, rateWindow)
	}
	return fmt.Sprintf("at most %d requests in %s", most, rateWindow), nil
}

// waited checks that nothing was asked for so long after the first refusal.
func waited(length time.Duration) func(context.Context, *scene) (string, error) {
	return func(ctx context.Context, s *scene) (string, error) {
		var refused time.Time
		for _, one := range s.gateway.Visits() {
			switch {
			case one.Troubled && refused.IsZero():
				refused = one.At
			case !refused.IsZero() && one.At.Sub(refused) < length:
				return "", fmt.Errorf("asked for %s %s after the first 429, not %s", one.Path, short(one.At.Sub(refused)), length)
			case !refused.IsZero():
				return fmt.Sprintf("next request %s after the first refusal", short(one.At.Sub(refused))), nil
			}
		}
		return "", errors.New("nothing was refused")
	}
}

// toServing notes how long the whole repair took, from the injection.
func fromInjection(limit time.Duration, also func(context.Context, *scene) (string, error)) func(context.Context, *scene) (string, error) {
	return func(ctx context.Context, s *scene) (string, error) {
		if _, err := also(ctx, s); err != nil {
			return "", err
		}
		moves, _ := s.running.log.since(s.moved)
		at, _ := arrival(moves)
		took := at.Sub(s.injected)
		note := fmt.Sprintf("noticed after %s, replaced after %s", short(moves[0].At.Sub(s.injected)), short(took))
		if took > limit {
			return "", fmt.Errorf("%s, not within %s", note, limit)
		}
		return note, nil
	}
}
