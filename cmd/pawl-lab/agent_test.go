package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pawl/internal/site"
)

// script is a stand-in for bin/pawl, for what the driver does with a child; the
// lab tests run the real one.
func script(t *testing.T, body string) agentProgram {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pawl")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body), 0o700); err != nil {
		t.Fatal(err)
	}
	return agentProgram{path: path}
}

const servingLine = "echo msg=moved from=ConsulReady event=registered to=Serving cause=register >&2\n"

func TestAgentServesAndStops(t *testing.T) {
	var out bytes.Buffer
	running, err := startAgent(newLauncher(), script(t, "trap 'echo left >&2; exit 0' TERM\n"+servingLine+"while :; do sleep 0.01; done\n"), &out)
	if err != nil {
		t.Fatal(err)
	}
	reached, err := running.awaitServing(t.Context(), time.Minute)
	if err != nil || reached.Event != "registered" {
		t.Errorf("reached %+v, %v", reached, err)
	}
	if took, err := running.stop(); err != nil || took <= 0 {
		t.Errorf("stop: %s, %v", took, err)
	}
	if want := "msg=moved from=ConsulReady event=registered to=Serving cause=register\nleft\n"; out.String() != want {
		t.Errorf("passed on %q, want %q", out.String(), want)
	}
	if _, err := running.stop(); !errors.Is(err, errAgentEnded) {
		t.Errorf("stop of what has ended: %v", err)
	}
}

func TestAgentThatEndsIsAnErrorWithItsLog(t *testing.T) {
	for name, wait := range map[string]func(*agent) error{
		"on the way": func(a *agent) error {
			_, err := a.awaitServing(t.Context(), time.Minute)
			return err
		},
		"on SIGTERM": func(a *agent) error {
			<-a.ended
			_, err := a.stop()
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			running, err := startAgent(newLauncher(), script(t, "echo the reason >&2; exit 7\n"), new(bytes.Buffer))
			if err != nil {
				t.Fatal(err)
			}
			if err := wait(running); !errors.Is(err, errAgentEnded) || !strings.Contains(err.Error(), "exit status 7") || !strings.Contains(err.Error(), "the reason") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestAgentThatStopsBadlyIsAnError(t *testing.T) {
	running, err := startAgent(newLauncher(), script(t, "trap 'exit 5' TERM\n"+servingLine+"while :; do sleep 0.01; done\n"), new(bytes.Buffer))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := running.awaitServing(t.Context(), time.Minute); err != nil {
		t.Error(err)
	}
	if _, err := running.stop(); err == nil || !strings.Contains(err.Error(), "exit status 5") {
		t.Errorf("got %v", err)
	}
}

func TestAwaitIsBounded(t *testing.T) {
	never := func([]move) bool { return false }
	waiting := &agent{log: newStream(new(bytes.Buffer)), ended: make(chan struct{})}
	_, _ = waiting.log.Write([]byte("msg=moved from=NoIdentity event=identified to=HasJWT cause=x\nvault says no\n"))
	err := waiting.await(t.Context(), 0, time.Millisecond, serving, never)
	if err == nil || !strings.Contains(err.Error(), "it stands in HasJWT") || !strings.Contains(err.Error(), "vault says no") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := waiting.await(ctx, 0, time.Minute, serving, never); !errors.Is(err, errInterrupted) {
		t.Errorf("got %v", err)
	}
}

func TestAgentOfAnotherSiteIsRefused(t *testing.T) {
	roots, err := ensureAuthorities(t.TempDir(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	text, err := renderSite(roots.bundle())
	if err != nil {
		t.Fatal(err)
	}
	own, err := site.Parse(text, siteTemplate)
	if err != nil {
		t.Fatal(err)
	}
	if err := (agentProgram{path: "bin/pawl", site: own}).fits(roots); err != nil {
		t.Errorf("its own site: %v", err)
	}
	others, err := ensureAuthorities(t.TempDir(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := (agentProgram{path: "bin/pawl", site: own}).fits(others); err == nil || !strings.Contains(err.Error(), "another CA roots") {
		t.Errorf("other roots: %v", err)
	}
	sockets := agentProgram{site: own}.sockets()
	if len(sockets) != 4 {
		t.Errorf("sockets %+v", sockets)
	}
}

func TestClearRefusesALiveAgent(t *testing.T) {
	for code, refused := range map[string]bool{"3": false, "0": true, "1": true, "2": true} {
		program := script(t, "exit "+code+"\n")
		program.site.RuntimeFolder = filepath.Join(t.TempDir(), "runtime")
		if err := os.Mkdir(program.site.RuntimeFolder, 0o700); err != nil {
			t.Fatal(err)
		}
		err := program.clear(t.Context())
		_, left := os.Stat(program.site.RuntimeFolder)
		if (err != nil) != refused || (left == nil) != refused {
			t.Errorf("status exits %s: %v, %v", code, err, left)
		}
	}
}
