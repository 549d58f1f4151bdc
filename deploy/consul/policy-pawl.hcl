# What the token of one VM's agent may do at Consul.

# Register the node and its checks, and read them back. A role of Vault's Consul
# engine is static: it cannot put the node's name here, so every VM may write
# every node's entry. A stolen token can therefore misreport another VM until
# its lease ends, at most a day later (the epoch's end); it can read no key and change no ACL.
node_prefix "" {
  policy = "write"
}

# Register node-exporter, and nothing of another name.
service "node-exporter" {
  policy = "write"
}
