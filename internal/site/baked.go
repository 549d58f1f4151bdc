package site

import _ "embed"

// bakedName is how the compiled-in file is called in errors.
const bakedName = "site.yaml (compiled in)"

// baked is the site file as it was when the binary was built. `make build
// SITE=path` puts another file in its place through the compiler's -overlay.
//
//go:embed site.yaml
var baked string

// Text returns the compiled-in site file, comments and all. The caller owns it.
func Text() []byte { return []byte(baked) }

// Baked parses the compiled-in site file. The build has verified it already; it
// is parsed again at start because a plain `go build` verifies nothing.
func Baked() (Site, error) { return Parse(Text(), bakedName) }
