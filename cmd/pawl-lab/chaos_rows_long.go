package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

const (
	// vaultOutage and bothOutage are the long outages of issue 3.
	vaultOutage = 5 * time.Minute
	bothOutage  = 10 * time.Minute
	// noticedTTL has a renewal come due in vaultOutage, and nothing expire: the Vault
	// token lasts 7 minutes and is renewed at 3.5 to 4.7.
	noticedTTL = 14 * time.Minute
	// endingTTL has all expire in the midst of bothOutage.
	endingTTL = 6 * time.Minute
	// recordedTTL has a renewal come due in the midst of bothOutage, so that Vault is
	// missed too, and nothing expire: the Vault token lasts 11 minutes.
	recordedTTL = 22 * time.Minute
	// quietLines is what an outage of bothOutage may write, Consul's lines included.
	quietLines = 30
)

// longFaults last for minutes, and are made with --long or by name.
func longFaults() []fault {
	both := func(name, how string) fault {
		return fault{number: "F38", name: name, how: how, keeps: servesOn, long: true, servers: 3,
			inject: inOrder(inLab("kill", "vault"), inLab("kill", consulNode(1), consulNode(2), consulNode(3))),
			until:  []words{into(degraded)}, hold: bothOutage, during: notReady,
			heal:   inOrder(inLab("start", "vault"), startAll),
			within: 30 * time.Second, must: []string{degraded}, says: []words{{"msg=moved", "to=" + serving}}, check: quiet(quietLines)}
	}
	rows := []fault{
		{number: "F3", name: "vault-down-5m", how: "SIGKILL for 5 minutes, a renewal due in them", keeps: allKept, long: true, ttl: noticedTTL,
			inject: inLab("kill", "vault"), hold: vaultOutage, during: standing("vault_unreachable"), heal: inLab("start", "vault"), must: []string{degraded}, mustNot: fallen, check: untouchedServices},
		{number: "F3", name: "vault-down-5m-past-ttl", how: "SIGKILL for 5 minutes, all expired in them", keeps: servesOn, long: true, ttl: slow,
			inject: inLab("kill", "vault"), until: []words{into(degraded)}, hold: vaultOutage, heal: inLab("start", "vault"), must: []string{noIdentity, hasJWT}, check: untouchedServices},
		both("both-down-10m", "Vault and all three Consul servers: SIGKILL for 10 minutes, production's TTLs"),
		both("both-down-10m-past-ttl", "the same, all expired in them"),
		both("outage-recorded", "the same, a renewal due in them, by the agent that records its log"),
	}
	rows[3].ttl, rows[3].must = endingTTL, []string{degraded, noIdentity, hasJWT}
	rows[4].ttl, rows[4].recorded, rows[4].check = recordedTTL, true, keepRecord
	return rows
}

// untouchedServices is sameAgent with a word for the table.
func untouchedServices(ctx context.Context, s *scene) (string, error) {
	_, err := sameAgent(ctx, s)
	return "no service restarted", err
}

// quiet checks that the outage, from its first second to the way back, wrote few
// lines, and that no service was restarted.
func quiet(most int) func(context.Context, *scene) (string, error) {
	return func(ctx context.Context, s *scene) (string, error) {
		wrote := s.log.count() - s.logged
		note := fmt.Sprintf("%d lines of log, Consul's included", wrote)
		if wrote > most {
			return "", fmt.Errorf("%s, not at most %d", note, most)
		}
		_, err := sameAgent(ctx, s)
		return note, err
	}
}

// recordingProgram is the variant of the agent that records its log, and
// recordVariable says where to.
const (
	recordingProgram = "pawl-record"
	recordVariable   = "PAWL_LAB_RECORD"
)

// recordTo has the scene run the recording variant.
func (s *scene) recordTo(file string) error {
	s.recording, s.program.path = file, filepath.Join(filepath.Dir(s.program.path), recordingProgram)
	if _, err := os.Stat(s.program.path); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w; `make bin/%s` builds it", err, recordingProgram)
	}
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.program.environment = append(s.program.environment, recordVariable+"="+file)
	return nil
}

// keepRecord is quiet, and leaves the outage's part of the recording beside the
// row's log, with a line before it that says what it is: internal/logs plays it again.
func keepRecord(ctx context.Context, s *scene) (string, error) {
	note, failed := quiet(quietLines)(ctx, s)
	text, err := os.ReadFile(s.recording)
	if err != nil {
		return "", err
	}
	head, err := json.Marshal(map[string]any{
		"what":     "all that pawl's log was handed at info in a real outage of Vault and of all three Consul servers, before anything was left out",
		"how":      "bin/pawl-lab chaos --only " + s.fault.name + ", which left this file; line by line as slog's JSON handler wrote it",
		"injected": s.injected.Format(time.RFC3339Nano), "healed": s.healed.Format(time.RFC3339Nano),
		"wrote": s.log.count() - s.logged,
	})
	if err != nil {
		return "", err
	}
	kept, said := append(head, '\n'), 0
	for line := range bytes.Lines(text) {
		var read struct{ Time time.Time }
		if err := json.Unmarshal(line, &read); err != nil {
			return "", fmt.Errorf("read the recording: %w", err)
		}
		if !read.Time.Before(s.injected) {
			kept, said = append(kept, line...), said+1
		}
	}
	if err := replaceFile(s.recording, kept, 0o600); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s, of %d handed to it: %s", note, said, s.recording), failed
}
