// Command verify checks a site file as strictly as the binary does at its start:
// `go run ./internal/site/verify FILE`. The build runs it first, so that a bad
// site fails the build. It exits 0 when all is well, 1 with every problem on
// stderr, 2 when it was called wrongly. It owns nothing and must import nothing
// of this project but internal/site.
package main

import (
	"fmt"
	"os"
	"time"

	"pawl/internal/site"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: verify FILE")
		os.Exit(2)
	}
	text, err := os.ReadFile(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	parsed, err := site.Parse(text, os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for _, warning := range parsed.Warnings(time.Now()) {
		fmt.Fprintln(os.Stderr, "warning: "+warning)
	}
	fmt.Printf("site %s (%s) is good\n", parsed.Name, parsed.Hash())
}
