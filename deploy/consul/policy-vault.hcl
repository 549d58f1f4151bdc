# What Vault's Consul engine needs: to make and delete tokens. Who may do that
# may give itself anything, so treat its token as a management token.
acl = "write"
