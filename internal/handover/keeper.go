package handover

import (
	"context"
	"log/slog"
	"sync"

	"pawl/states"
)

// Keeper keeps the file of the runtime folder up to date, so that a crash costs
// no login. It is a service: it is told what is held, and deletes the file when it
// is stopped, unless a successor is to find it.
type Keeper struct {
	folder string
	site   string
	logger *slog.Logger

	lock     sync.Mutex
	saved    held
	told     bool // that it cannot be saved here: said once
	stopped  bool
	keepFile bool
}

// held is what the document depends on: comparable, so that nothing is written twice.
type held struct {
	identity states.Identity
	jwt      states.JWT
	current  states.Epoch
	next     states.VaultToken
	former   int
}

// NewKeeper returns a keeper of the file in folder.
func NewKeeper(folder, site string, logger *slog.Logger) *Keeper {
	return &Keeper{folder: folder, site: site, logger: logger}
}

// Name implements service.Service.
func (k *Keeper) Name() string { return "handover" }

// Serve implements service.Service.
func (k *Keeper) Serve(ctx context.Context) error {
	<-ctx.Done()
	k.lock.Lock()
	defer k.lock.Unlock()
	k.stopped = true
	if k.keepFile {
		return nil
	}
	return Delete(k.folder)
}

// Keep makes the file outlive the next stop. Safe from any goroutine.
func (k *Keeper) Keep() {
	k.lock.Lock()
	defer k.lock.Unlock()
	k.keepFile = true
}

// Refresh implements service.Refresher. A folder that is not fit to hold a secret,
// or has no room for it, is named once; until that is mended, a crash costs a login.
func (k *Keeper) Refresh(now states.Held) {
	want := held{now.Identity, now.JWT, now.Current, now.Next.Vault, len(now.Former)}
	k.lock.Lock()
	defer k.lock.Unlock()
	if k.stopped || want == k.saved || want.current.Number == 0 {
		return
	}
	text, err := Encode(now, Now(k.site))
	if err == nil {
		err = Save(k.folder, text)
	}
	if err != nil {
		if !k.told {
			k.told = true
			k.logger.Warn("no hand-over", "error", err)
		}
		return
	}
	k.saved = want
}

// Forget deletes the file for good, whether or not the service has come to its
// stop: what it holds is about to be revoked. Safe from any goroutine.
func (k *Keeper) Forget() error {
	k.lock.Lock()
	defer k.lock.Unlock()
	k.stopped = true
	return Delete(k.folder)
}
