// Package deploy owns the files that Vault and Consul are set up with: policies,
// roles and mounts, the same for a real site and for the lab. README.md beside
// them says how to apply them by hand. It must import nothing but embed.
package deploy

import "embed"

// Files holds vault/, consul/ and site/ as they are in the checkout. A word in
// @AT_SIGNS@ is to be filled in when the file is applied.
//
//go:embed vault consul site
var Files embed.FS
