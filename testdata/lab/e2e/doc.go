// Package e2e owns the lab tests: bin/pawl as it is shipped, against the real
// Vault, the stock Consul and the JWT service of bin/pawl-lab. It sees the agent
// from outside alone: its log, its exit code, its status socket, its metrics, and
// what the servers say of it. It must import neither hashicorp/vault nor
// hashicorp/consul themselves, only their API clients, and nothing of the agent.
//
// The tests wait for events, bounded, and sleep for nothing. Lab and agent have
// fixed addresses, so that one runs at a time on a machine: a lock in the system's
// temporary folder sees to it.
package e2e
