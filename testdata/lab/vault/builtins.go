package main

import (
	jwt "github.com/hashicorp/vault-plugin-auth-jwt"
	kv "github.com/hashicorp/vault-plugin-secrets-kv"
	"github.com/hashicorp/vault/builtin/logical/consul"
	"github.com/hashicorp/vault/builtin/logical/pki"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
)

func credentialBackends() map[string]logical.Factory {
	return map[string]logical.Factory{"jwt": jwt.Factory}
}

func logicalBackends() map[string]logical.Factory {
	return map[string]logical.Factory{"consul": consul.Factory, "kv": kv.Factory, "pki": pki.Factory}
}

// builtins is the plugin catalogue's registry of what is compiled in. Without
// one, mounting anything panics.
type builtins struct{}

func (builtins) of(kind consts.PluginType) map[string]logical.Factory {
	switch kind {
	case consts.PluginTypeCredential:
		return credentialBackends()
	case consts.PluginTypeSecrets:
		return logicalBackends()
	default:
		return nil
	}
}

// Contains implements plugincatalog.BuiltinRegistry.
func (b builtins) Contains(name string, kind consts.PluginType) bool {
	_, found := b.of(kind)[name]
	return found
}

// Get implements plugincatalog.BuiltinRegistry.
func (b builtins) Get(name string, kind consts.PluginType) (func() (any, error), bool) {
	factory, found := b.of(kind)[name]
	if !found {
		return nil, false
	}
	return func() (any, error) { return factory, nil }, true
}

// Keys implements plugincatalog.BuiltinRegistry.
func (b builtins) Keys(kind consts.PluginType) []string {
	var names []string
	for name := range b.of(kind) {
		names = append(names, name)
	}
	return names
}

// DeprecationStatus implements plugincatalog.BuiltinRegistry.
func (b builtins) DeprecationStatus(name string, kind consts.PluginType) (consts.DeprecationStatus, bool) {
	if !b.Contains(name, kind) {
		return consts.Unknown, false
	}
	return consts.Supported, true
}

// IsBuiltinEntPlugin implements plugincatalog.BuiltinRegistry: the lab's Vault is the community edition.
func (builtins) IsBuiltinEntPlugin(string, consts.PluginType) bool { return false }
