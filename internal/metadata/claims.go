package metadata

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strings"
	"time"

	"pawl/internal/failure"
	"pawl/states"
)

var (
	uuidPattern  = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	labelPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	plainPattern = regexp.MustCompile(`^[!-~]{1,255}$`)
)

// mostSeconds bounds a token's life, so that no arithmetic on it overflows: ten years.
const mostSeconds = 10 * 365 * 24 * 3600

// read takes the identity and the life out of a token's claims. Nothing is
// verified here: a forged token is refused by Vault, and this check only makes
// an honest mistake readable. The life is exp - iat, both by the issuer's clock,
// and runs from receipt by ours (law 9).
func (c *Client) read(token string) (states.Identity, string, time.Duration, error) {
	none := func(what string) (states.Identity, string, time.Duration, error) {
		return states.Identity{}, "", 0, c.odd(what)
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 || parts[0] == "" || parts[2] == "" {
		return none("the jwt does not have three parts")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return none("the jwt's claims are not base64")
	}
	// By exact name: decoding into a struct would take "Node" for "node".
	var claims map[string]json.RawMessage
	if json.Unmarshal(payload, &claims) != nil || claims == nil {
		return none("the jwt's claims are not JSON")
	}
	texts := map[string]string{}
	for _, want := range []struct {
		name    string
		pattern *regexp.Regexp
	}{{"iss", plainPattern}, {"sub", plainPattern}, {"jti", plainPattern}, {"vm_uuid", uuidPattern}, {"node", labelPattern}} {
		var text string
		if json.Unmarshal(claims[want.name], &text) != nil {
			return none("the jwt has no text as " + want.name)
		}
		if want.name == "vm_uuid" {
			text = strings.ToLower(text) // firmware likes capitals
		}
		if !want.pattern.MatchString(text) {
			return none("the jwt's " + want.name + " is malformed")
		}
		texts[want.name] = text
	}
	var issued, expires float64
	if json.Unmarshal(claims["iat"], &issued) != nil || json.Unmarshal(claims["exp"], &expires) != nil {
		return none("the jwt has no iat or no exp")
	}
	seconds := expires - issued
	if math.IsNaN(seconds) || seconds <= 0 || seconds > mostSeconds {
		return none(fmt.Sprintf("the jwt lasts %.0f seconds", seconds))
	}
	if audience, single := audienceOf(claims["aud"]); !single || audience != c.site.Audience {
		return states.Identity{}, "", 0, failure.New(failure.Identity, failure.RemoteMetadata,
			"ask %s for a JWT: it is for the audience %s, not for %q", c.site.URL, printable(string(claims["aud"])), c.site.Audience).
			WithFix("start the metadata service with --audience " + c.site.Audience + ", and see what answers at " + c.site.URL)
	}
	identity := states.Identity{Node: texts["node"], NodeID: texts["vm_uuid"], Subject: texts["sub"]}
	return identity, texts["jti"], time.Duration(seconds * float64(time.Second)), nil
}

// audienceOf reads aud, a text or a list of just one.
func audienceOf(raw json.RawMessage) (string, bool) {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return one, one != ""
	}
	var list []string
	if json.Unmarshal(raw, &list) == nil && len(list) == 1 {
		return list[0], list[0] != ""
	}
	return "", false
}
