package transitions

import (
	"context"

	"pawl/internal/failure"
	"pawl/states"
)

// fetchJWT asks the metadata service who we are. The first answer of a process
// decides its identity; a later JWT that names another VM is refused (issue 2).
func (a *actions) fetchJWT(ctx context.Context, held states.Held) (states.Held, error) {
	grant, err := a.Metadata.FetchJWT(ctx)
	if err != nil {
		return held, err
	}
	if held.Identity.NodeID != "" && grant.Identity != held.Identity {
		return held, failure.New(failure.Identity, failure.RemoteMetadata,
			"fetch jwt: it names %s (%s), this process is %s (%s)",
			grant.Identity.Node, grant.Identity.NodeID, held.Identity.Node, held.Identity.NodeID).
			WithFix("if this VM was renamed or rebuilt, restart pawl; else look for a wrong or spoofed metadata service")
	}
	held.Identity = grant.Identity
	held.JWT = states.JWT{Life: states.NewLife(grant.ID, a.Now(), grant.TTL, a.Roll()), Text: grant.Text}
	return held, nil
}
