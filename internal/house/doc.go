// Package house owns the rules of the house that no compiler knows: who may
// import whom and why, what every package and every test must have, and that
// what is generated in documents is what the tables say. It is tests alone, and
// must never be imported.
//
// `go test ./internal/house -update` writes the goldens and the generated block
// of README.md anew.
package house
