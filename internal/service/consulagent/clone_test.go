package consulagent

import (
	"context"
	"testing"
	"time"

	"pawl/internal/failure"
)

// TestClone: a second VM with the same identity stays out while the first one is
// alive, is told why, and the first one's entry does not move; when the first one
// is gone, the second one comes in.
func TestClone(t *testing.T) {
	lab := newLab(t)
	original, stop := lab.agent(t, Options{RegisterNodeExporter: true})
	within(t, 10*time.Second, func(ctx context.Context) error { return original.Install(ctx, self, lab.epoch(t)) })
	within(t, 2*time.Second, func(ctx context.Context) error { return original.Register(ctx, nil) })
	within(t, 2*time.Second, found(original))
	before := lab.check(t, serfCheck)

	lab.site.Consul.Bind, lab.site.Consul.HTTP, lab.site.RuntimeFolder = "127.0.7.3", "127.0.7.3:8500", t.TempDir()
	clone, _ := lab.agent(t, Options{RegisterNodeExporter: true})
	got := failure.Of(clone.Verify(t.Context(), self, lab.epoch(t)))
	if got == nil || got.Class != failure.Identity || got.Fix == "" {
		t.Fatalf("the clone was told %v (%+v)", got, got)
	}
	t.Log(got, "; fix:", got.Fix)
	if after := lab.check(t, serfCheck); before == nil || after == nil || after.ModifyIndex != before.ModifyIndex {
		t.Errorf("the original's entry moved from %+v to %+v", before, after)
	}
	// The original may verify its next epoch: it is the node that is alive.
	must(t, original.Verify(t.Context(), self, lab.epoch(t)))

	stop()
	within(t, 10*time.Second, func(ctx context.Context) error { return clone.Verify(ctx, self, lab.epoch(t)) })
	within(t, 10*time.Second, func(ctx context.Context) error { return clone.Install(ctx, self, lab.epoch(t)) })
}
