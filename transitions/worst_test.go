package transitions

import (
	"testing"
	"time"

	"pawl/internal/failure"
)

// TestWorstWaitsLongest: of two failures side by side the one says what is wrong,
// and the other may have been told how long to wait.
func TestWorstWaitsLongest(t *testing.T) {
	missing := failure.New(failure.Config, failure.RemoteVault, "there is no key")
	busy := failure.New(failure.Transient, failure.RemoteVault, "busy (429)")
	busy.RetryAfter = time.Minute
	for _, got := range []error{worst(missing, busy), worst(busy, missing)} {
		if failed := failure.Of(got); failed.Class != failure.Config || failed.RetryAfter != time.Minute {
			t.Errorf("%+v", failed)
		}
	}
}
