# What pawl expects of Consul's servers. Addresses, keys and tokens go into
# another file beside it; the lab's servers load this very file.
server             = true
datacenter         = "@DATACENTER@"
domain             = "@DOMAIN@"
disable_update_check = true

# A server that is stopped comes back: it must not leave, nor its node be reaped.
leave_on_terminate      = false
skip_leave_on_interrupt = true

acl {
  enabled        = true
  default_policy = "deny"
}

# Nobody reaches RPC without a certificate of the CA, and only a certificate
# named server.<datacenter>.<domain> is a server. Vault's PKI role refuses that name.
tls {
  defaults {
    verify_outgoing = true
  }
  internal_rpc {
    verify_incoming        = true
    verify_server_hostname = true
  }
}

# Encrypted gossip or none.
encrypt_verify_incoming = true
encrypt_verify_outgoing = true
