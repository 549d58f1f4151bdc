# What one VM may do at Vault: all of it, and for every VM the same policy.

# Who am I: a 403 elsewhere is a dead token if this fails too, else a missing policy.
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self"  { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }

# The lease of the Consul token. Lease ids are unguessable and only their holder knows them.
path "sys/leases/renew"  { capabilities = ["update"] }
path "sys/leases/revoke" { capabilities = ["update"] }

# Serf's key: one for the datacenter.
path "kv/data/consul/gossip" { capabilities = ["read"] }

# A client certificate for a key made in the VM (sign, not issue: the key never
# travels). The PKI role allows only the name of the VM that asks.
path "pki/sign/pawl" { capabilities = ["update"] }

path "consul/creds/pawl" { capabilities = ["read"] }
