package main

import (
	"os"
	"os/signal"
	"syscall"
)

// signals is what a process is told by signal. What ends it has a channel of its
// own, which no crowd of the others can fill.
type signals struct {
	ends chan os.Signal // SIGTERM and SIGINT; a third says no more than the second
	asks chan os.Signal // SIGUSR1 and SIGHUP
}

// listen asks for all of them: until then each would end the process.
func listen() signals {
	s := signals{ends: make(chan os.Signal, 2), asks: make(chan os.Signal, 8)}
	signal.Notify(s.ends, syscall.SIGTERM, syscall.SIGINT)
	signal.Notify(s.asks, syscall.SIGUSR1, syscall.SIGHUP)
	return s
}
